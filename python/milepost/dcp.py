"""Storage for torch.distributed.checkpoint: every rank saves its part, one commit makes it whole.

    dcp.save(state, storage_writer=milepost.dcp.Writer(store, step))
    dcp.load(state, storage_reader=milepost.dcp.Reader(store))

Each rank saves its shards as a part of the step's checkpoint. When all of them are durable, the
coordinator commits them together: before that there is no checkpoint. Nothing is pickled in the
store: values that are no tensors are stored as state trees.
"""

from milepost.dcp_reader import Reader
from milepost.dcp_writer import Writer

__all__ = ["Reader", "Writer"]
