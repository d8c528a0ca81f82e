"""The native module. Private: the public names are those of the package."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

Progress = Callable[[int, int], object]

class OpenRequest(TypedDict):
    threads: int
    cache_bytes: int
    reader: str
    lock_timeout: float | None
    quota: int | None

class RulesRequest(TypedDict):
    last: int | None
    every: int | None
    within: str | None
    tags: set[str]
    best: list[str]

class SettingsRequest(TypedDict):
    restore_budget_milli: int
    depth_max: int
    full_every: int
    level: str
    chunk_len: int
    quota: int | None
    keep: RulesRequest

class SaveRequest(TypedDict):
    run: str
    step: int | None
    parent: str | None
    like: str | None
    full: str
    durability: str
    level: str | None
    tags: list[str]
    tensors: list[tuple[str, str, list[int], Any]]
    relations: list[tuple[str, str, list[str]]]
    blobs: list[tuple[str, Any]]
    metadata: dict[str, str]
    metrics: dict[str, float]
    parts: Sequence[bytes]
    progress: Progress | None

class ForgetRequest(TypedDict):
    revisions: list[str]
    rules: RulesRequest
    runs: list[str]
    drop: list[str]
    collect: bool
    wait: bool
    dry_run: bool

class SaveView(TypedDict):
    id: str
    run: str
    seq: int
    step: int
    existed: bool
    full: bool
    depth: int
    logical_bytes: int
    added_bytes: int
    restore_cost: int
    chunks: int
    new_chunks: int
    like: str | None
    dropped_checkpoints: int

class SummaryView(TypedDict):
    id: str
    parent: str | None
    run: str
    seq: int
    step: int
    time_ms: int
    full: bool
    depth: int
    tensors: int
    dropped_tensors: int
    metrics: dict[str, float]
    logical_bytes: int
    added_bytes: int
    restore_cost: int
    durability: str

class ListView(TypedDict):
    checkpoints: list[SummaryView]
    damaged: list[str]

class CheckpointView(TypedDict):
    id: str
    parent: str | None
    run: str
    seq: int
    step: int
    time_ms: int
    full: bool
    depth: int
    metrics: dict[str, float]
    metadata: dict[str, str]
    blobs: dict[str, int]
    logical_bytes: int
    added_bytes: int
    durability: str

class TensorView(TypedDict):
    name: str
    dtype: str
    shape: list[int]
    byte_len: int
    dropped: bool

class DiskView(TypedDict):
    packs: int
    pack_bytes: int
    manifest_bytes: int
    other_bytes: int
    trash_bytes: int
    total_bytes: int

class ForgetView(TypedDict):
    gone: list[SummaryView]
    thinned: list[SummaryView]
    kept: int
    tags: list[str]
    freed_bytes: int

class GcView(TypedDict):
    checkpoints: int
    packs: int
    removed_packs: int
    removed_bytes: int
    idle_bytes: int

class CompactView(TypedDict):
    rewritten_packs: int
    rewritten_bytes: int
    new_packs: int
    new_bytes: int
    removed_bytes: int

class ProblemView(TypedDict):
    message: str
    code: str
    file: str | None
    checkpoints: list[str]
    tensors: list[str]

class VerifyView(TypedDict):
    checkpoints: int
    packs: int
    records: int
    record_bytes: int
    chunks: int
    decoded_chunks: int
    decoded_bytes: int
    problems: list[ProblemView]

VERSION: str

class NativeCheckpoint:
    def describe(self) -> CheckpointView: ...
    def tensors(self) -> list[TensorView]: ...
    def blob(self, name: str) -> bytes: ...
    def read(self, requests: dict[str, Any], progress: Progress | None = None) -> None: ...
    def read_rows(self, name: str, start: int, stop: int, buffer: Any) -> None: ...

class NativePart:
    def told(self) -> bytes: ...
    def added_bytes(self) -> int: ...
    def close(self) -> None: ...

class NativeStore:
    @staticmethod
    def open(path: str, options: OpenRequest) -> NativeStore: ...
    @staticmethod
    def create(path: str, settings: SettingsRequest, options: OpenRequest) -> NativeStore: ...
    def save(self, request: SaveRequest) -> SaveView: ...
    def save_part(self, request: SaveRequest, index: int, count: int) -> NativePart: ...
    def quota_left(self) -> int | None: ...
    def make_room(self) -> int: ...
    def checkpoint(self, revision: str) -> NativeCheckpoint: ...
    def newest(self, run: str) -> SummaryView | None: ...
    def list(self, run: str | None) -> ListView: ...
    def runs(self) -> Sequence[str]: ...
    def tags(self) -> dict[str, str]: ...
    def tag(self, name: str, revision: str) -> str: ...
    def untag(self, name: str) -> None: ...
    def fork(self, revision: str, run: str) -> SaveView: ...
    def disk_usage(self) -> DiskView: ...
    def attributes(self) -> dict[str, str]: ...

def run_command(program: list[str], args: list[str]) -> int: ...
def error_kinds() -> list[str]: ...
def dtypes() -> list[tuple[str, int]]: ...
def forget(native: NativeStore, request: ForgetRequest) -> ForgetView: ...
def gc(native: NativeStore, dry_run: bool, wait: bool) -> GcView: ...
def compact(native: NativeStore, dry_run: bool, reencode: bool) -> CompactView: ...
def verify(
    native: NativeStore, revision: str | None, percent: int, progress: Progress | None = None
) -> VerifyView: ...
