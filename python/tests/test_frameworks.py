"""Lightning, Hugging Face and JAX: each trains something small, stops, and resumes."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import milepost
from same import same

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class TestLightning:
    """The CheckpointIO, also in the background, and rotation."""

    def trainer(self, tmp_path: Path, steps: int, kind: str) -> Any:
        import lightning
        from lightning.pytorch.callbacks import ModelCheckpoint
        from lightning.pytorch.plugins.io import AsyncCheckpointIO

        from milepost.lightning import CheckpointIO

        plugin: Any = None if kind == "its own" else CheckpointIO(tmp_path / "store")
        if kind == "background":
            plugin = AsyncCheckpointIO(plugin)
        rotation = ModelCheckpoint(
            tmp_path / "files", every_n_train_steps=2, save_top_k=2, monitor="at", mode="max"
        )
        return lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            plugins=[plugin] if plugin is not None else [],
            callbacks=[rotation],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def module(self) -> Any:
        import lightning

        class Net(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(3)
                self.layer = torch.nn.Linear(4, 1)

            def training_step(self, batch: Any, index: int) -> Any:
                self.log("at", float(self.global_step))
                return self.layer(batch[0]).square().mean()

            def configure_optimizers(self) -> Any:
                optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
                return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 3)]

        return Net()

    def data(self) -> Any:
        rows = torch.arange(80.0).reshape(20, 4) / 80
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=2)

    def resumed(self, tmp_path: Path, kind: str) -> Any:
        """Trains four steps, and four more in another trainer."""
        first = self.trainer(tmp_path, 4, kind)
        first.fit(self.module(), self.data())
        module = self.module()
        second = self.trainer(tmp_path, 8, kind)
        second.fit(module, self.data(), ckpt_path=first.checkpoint_callback.best_model_path)
        assert second.global_step == 8
        return dict(module.state_dict())

    @pytest.mark.parametrize("kind", ["waiting", "background"])
    def test_it_resumes_to_the_same_bits_as_with_files(self, tmp_path: Path, kind: str) -> None:
        ours, its = tmp_path / "ours", tmp_path / "its"
        assert same(self.resumed(ours, kind), self.resumed(its, "its own"))
        store = milepost.open(ours / "store")
        files = {p.name for p in (ours / "files").iterdir()}
        assert files == {p.name for p in (its / "files").iterdir()}
        # Rotation forgets in the store what it removes beside.
        assert len(store.log()) == len(files) and store.verify()

    @pytest.mark.parametrize("with_generators", [True, False])
    def test_dropout_goes_on_where_it_was_only_with_its_generators(
        self, tmp_path: Path, with_generators: bool
    ) -> None:
        from milepost.lightning import RandomGenerators

        rows = torch.utils.data.TensorDataset(torch.arange(80.0).reshape(20, 4) / 80)

        def train(folder: str, steps: int, path: Any = None) -> tuple[Any, str]:
            module = self.module()
            module.layer = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
            torch.nn.init.ones_(module.layer[1].weight)
            torch.nn.init.zeros_(module.layer[1].bias)
            torch.manual_seed(5 if path is None else 6)
            trainer = self.trainer(tmp_path / folder, steps, "waiting")
            if with_generators:
                trainer.callbacks.append(RandomGenerators())
            loader = milepost.ResumableLoader(rows, batch_size=2, seed=1)
            trainer.fit(module, loader, ckpt_path=path)
            return dict(module.state_dict()), trainer.checkpoint_callback.best_model_path

        # An epoch is ten steps: the first resume is in the middle of one, the second at its end.
        whole, _ = train("whole", 16)
        _, at_4 = train("parts", 4)
        _, at_10 = train("parts", 10, at_4)
        resumed, _ = train("parts", 16, at_10)
        assert same(resumed, whole) == with_generators

    def test_what_is_not_there_cannot_be_loaded(self, tmp_path: Path) -> None:
        from milepost.lightning import CheckpointIO

        plugin = CheckpointIO(tmp_path / "store")
        with pytest.raises(milepost.NotFoundError):
            plugin.load_checkpoint(tmp_path / "none")
        plugin.remove_checkpoint(tmp_path / "none")
        plugin.save_checkpoint({"a": 1}, tmp_path / "x")
        plugin.save_checkpoint({"a": 2}, tmp_path / "x")
        assert plugin.load_checkpoint(tmp_path / "x") == {"a": 2}


class TestHuggingFace:
    """The callback, its rotation, and resuming from the store."""

    def train(
        self,
        tmp_path: Path,
        steps: int,
        resume: str | None,
        keep: str = "store",
        wait: bool = True,
    ) -> Any:
        import transformers

        from milepost.hf import Checkpoints

        transformers.set_seed(1)
        config = transformers.GPT2Config(
            vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2
        )
        model = transformers.GPT2LMHeadModel(config)
        rows = [{"input_ids": torch.arange(i, i + 8) % 32} for i in range(24)]
        for row in rows:
            row["labels"] = row["input_ids"]
        args = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=steps,
            save_steps=2,
            save_total_limit=2,
            per_device_train_batch_size=2,
            logging_steps=1,
            lr_scheduler_type="constant",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        callback = Checkpoints(tmp_path / "store", keep=keep, wait=wait)
        trainer = transformers.Trainer(
            model=model, args=args, train_dataset=rows, callbacks=[callback]
        )
        trainer.train(resume_from_checkpoint=resume)
        return model

    def test_it_resumes_bit_for_bit_from_the_store_alone(self, tmp_path: Path) -> None:
        from milepost.hf import restore

        whole = self.train(tmp_path / "whole", 8, None)
        assert restore(tmp_path / "parts" / "store", tmp_path / "parts" / "out") is None
        self.train(tmp_path / "parts", 4, None)
        assert not list((tmp_path / "parts" / "out").glob("checkpoint-*"))
        folder = restore(tmp_path / "parts" / "store", tmp_path / "parts" / "out")
        assert folder is not None and folder.endswith("checkpoint-4")
        resumed = self.train(tmp_path / "parts", 8, folder)
        assert same(dict(resumed.state_dict()), dict(whole.state_dict()))
        steps = [s.step for s in milepost.open(tmp_path / "parts" / "store").log()]
        assert steps == [6, 8] and "loss" in milepost.open(tmp_path / "parts" / "store")[8].metrics

    def test_saves_behind_the_training_are_done_when_it_ends(self, tmp_path: Path) -> None:
        self.train(tmp_path, 6, None, wait=False)
        assert not list((tmp_path / "out").glob("checkpoint-*"))
        store = milepost.open(tmp_path / "store")
        assert [s.step for s in store.log()] == [4, 6] and store.verify(read_data=True)

    def test_a_failure_behind_the_training_surfaces_and_its_folder_stays(
        self, tmp_path: Path
    ) -> None:
        with milepost.open(tmp_path / "store") as store:
            store.save(2, {"another": 2})
        with pytest.raises(milepost.ConflictError):
            self.train(tmp_path, 2, None, wait=False)
        assert (tmp_path / "out" / "checkpoint-2").is_dir()

    def test_files_come_back_byte_for_byte(self, tmp_path: Path) -> None:
        from milepost.hf import restore

        self.train(tmp_path, 2, None, keep="both")
        written = tmp_path / "out" / "checkpoint-2"
        before = {p.relative_to(written): p.read_bytes() for p in written.rglob("*")}
        again = Path(restore(tmp_path / "store", tmp_path / "again") or "")
        assert before == {p.relative_to(again): p.read_bytes() for p in again.rglob("*")}
        store = milepost.open(tmp_path / "store")
        assert any("wte" in name for name in store["latest"])


class TestJax:
    """Pytrees, with the structure of a template."""

    def test_a_pytree_comes_back_by_template(self, store: milepost.Store) -> None:
        import jax
        import jax.numpy as jnp

        import milepost.jax

        state_type = collections.namedtuple("state_type", "count mu")

        def step(state: Any) -> Any:
            grads = jax.grad(lambda p: jnp.sum((p["w"].astype(jnp.float32) - 1) ** 2))
            found = grads(state["params"])
            mu = jax.tree.map(lambda m, g: 0.9 * m + g, state["opt"].mu, found)
            params = jax.tree.map(lambda p, m: (p - 0.1 * m).astype(p.dtype), state["params"], mu)
            return {"params": params, "opt": state_type(state["opt"].count + 1, mu)}

        params = {"w": jnp.zeros((4, 3), jnp.bfloat16), "b": jnp.zeros(2)}
        state = {"params": params, "opt": state_type(0, jax.tree.map(jnp.zeros_like, params))}
        whole = step(step(step(state)))
        store.save(1, step(state))
        resumed = milepost.jax.load(store["latest"], like=state)
        assert isinstance(resumed["opt"], state_type) and resumed["opt"].count == 1
        resumed = step(step(resumed))
        alike = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), whole, resumed)
        assert all(jax.tree.leaves(alike)), alike
        assert isinstance(store["latest"].load()["params"]["w"], jax.Array)
        with pytest.raises(milepost.MismatchError, match="leaves"):
            milepost.jax.load(store["latest"], like=params)
        other = {**state, "params": {**params, "b": jnp.zeros(3)}}
        with pytest.raises(milepost.MismatchError, match="is saved"):
            milepost.jax.load(store["latest"], like=other)
