#!/usr/bin/env python3
"""Takes steps out of the engine one at a time and sees that the named tests notice.

Usage: mutants.py [NAME...]     all of them, or those whose name holds one of the words
       mutants.py --check       only see that each can still be applied and is told of in docs/reliability.md

Each mutant is a text that stands once in a file, and what takes its place. The tree is copied; nothing here changes it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "engine/src/"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: str  # what must fail: words that cargo test takes


MUTANTS = [
    Mutant("gc: unlinked manifests are not synced first", "gc/mod.rs", "        settle_removals(disk)?;\n", "", "crash::regression"),
    Mutant("gc: the gate is not closed", "gc/mod.rs", "    let _gate = txn::close_gate(disk, patience)?;\n", "", "crash::interleaved"),
    Mutant("gc: what is new is not marked", "gc/mod.rs", "    mark.add_new(patience.observer)?;\n", "", "crash::interleaved"),
    Mutant(
        "gc: an unreadable manifest is passed over",
        "gc/mark.rs",
        "                    return Err(error.hint(",
        "                    if true {\n                        continue;\n                    }\n                    return Err(error.hint(",
        "deletion::",
    ),
    Mutant("gc: two at a time", "gc/mod.rs", "        let alone = lock_collector(disk)?;\n", "        let alone = disk.lock(&path::turn(), LockMode::Shared)?.ok_or_else(|| Error::corrupt(\"x\", \"x\"))?;\n", "deletion::one_collector compaction::one_collector"),
    Mutant(
        "gc: inputs of records are not marked",
        "gc/mark.rs",
        "        stack.extend(located.entry.inputs.iter().map(|input| (*input, depth)));\n",
        "",
        "deletion::",
    ),
    Mutant("gc: nothing comes back from the trash", "gc/mod.rs", "        trash::rescue(disk, pack)?;\n", "        let _ = pack;\n", "deletion::what_is_needed"),
    Mutant("forget: what stays is not synced first", "retain/forget.rs", "        disk.sync(&path::run_folder(run)?)?;\n", "", "crash::regression"),
    Mutant("forget: unlinked manifests are not synced", "retain/forget.rs", "        disk.sync(&path::run_folder(run)?)\n", "        Ok(())\n", "crash::no_crash"),
    Mutant("forget: without the run's lock", "retain/forget.rs", "            let _ordered = self.lock_run(run, observer)?;\n", "", "crash::interleaved"),
    Mutant(
        "forget: an old plan is carried out as it is",
        "retain/forget.rs",
        "            if !judged.named && stays.contains(&place) {",
        "            if false && stays.contains(&place) {",
        "deletion::a_plan_that_is_out_of_date",
    ),
    Mutant("forget: the newest durable may go", "retain/judge.rs", "        add(index >= newest_durable, Reason::Newest);\n", "", "retain::judge crash::"),
    Mutant("forget: tags of what goes stay", "retain/forget.rs", "                tags::remove(disk, &tag)?;\n", "", "deletion::"),
    Mutant("thin, compact: a replaced manifest is not synced", "store/history.rs", "    file.sync()?;\n    // A cached", "    // A cached", "crash::"),
    Mutant("compact: new packs are not synced", "compact/rewrite.rs", "writer.finish(true)?", "writer.finish(false)?", "crash::no_crash"),
    Mutant("compact: new packs' names are not synced", "compact/rehint.rs", "    make_durable(store, txn, mark, live, plan, new)?;\n", "", "crash::"),
    Mutant("compact: what only relaxed checkpoints named is not synced", "compact/rehint.rs", ".chain(unvouched)", ".chain(unvouched.take(0))", "crash::"),
    Mutant("compact: manifests are replaced without the run's lock", "compact/rehint.rs", "        let _ordered = store.lock_run(run, observer)?;\n", "", "crash::interleaved"),
    Mutant("compact: old packs go before manifests name the new", "compact/rehint.rs", "    history::replace_manifest(store, txn, &manifest)?;\n", "", "compaction::"),
    Mutant("compact: a checkpoint that lacks a chunk stops nothing", "compact/mod.rs", "        require_resolved(&mark)?;\n", "", "compaction::"),
    Mutant("compact: inputs of records stay behind", "compact/live.rs", "                stack.extend(&located.entry.inputs);\n", "", "compaction::"),
    Mutant("save: removed packs are still believed in", "save/durable.rs", "        PackFile::open_for_records(&*store.0.disk, &hint.pack)?.require_len(hint.len)?;\n", "        let _ = (store, hint);\n", "crash::interleaved"),
    Mutant("save: a pack that is gone ends it", "store/mod.rs", "            Err(error) if error.kind() == ErrorKind::NotFound => {", "            Err(error) if error.kind() == ErrorKind::Limit => {", "crash::interleaved"),
    Mutant("save: a fork does not look at its source again", "save/commit.rs", "    let source = &store.checkpoint_at(&source.place())?;\n", "", "crash::interleaved"),
    Mutant("save: a fork is of any checkpoint of that id", "save/commit.rs", "store.checkpoint_at(&source.place())?;", "store.checkpoint_by_id(&source.id())?;", "fork::"),
    Mutant("quota: what is written is not counted", "save/room.rs", "left.checked_sub(bytes)", "left.checked_sub(bytes.min(0))", "quota::"),
    Mutant("quota: the newest verified may go", "save/room.rs", "spare_verified: true,", "spare_verified: false,", "quota::"),
    Mutant("quota: no room is made", "save/room.rs", "    for may_forget in [false, true] {", "    for may_forget in [false; 0] {", "quota::"),
    Mutant("quota: what is not enough goes all the same", "save/room.rs", " && is_enough(free.saturating_add(would_free));", ";", "quota::"),
    Mutant("quota: checkpoints go before what nothing needs", "save/room.rs", "    if wish.may_be_there && ", "    if false && ", "quota::"),
    Mutant("gc: what may hide a run is passed over", "store/history.rs", "    match obstacles(disk)?.into_iter().next() {", "    match obstacles(disk)?.into_iter().next().filter(|_| false) {", "corruption::hidden"),
    Mutant("write: links are followed", "store/real_disk/root.rs", "        self.open(&path.parent(), TO_PASS)", "        fs::openat(&self.0, match path.parent().as_str() { \"\" => \".\", text => text }, TO_PASS, Mode::empty())", "corruption::hidden"),
    Mutant("forget: a clock that was ahead makes all look old", "retain/judge.rs", " > within.milliseconds() => *before,", " > u64::MAX / 2 => *before,", "retain::judge"),
    Mutant("forget: a clock that was behind makes one look old", "retain/judge.rs", "(*time).max(*before.min(after))", "(*time).max((*before.min(after)).min(0))", "retain::judge"),
    Mutant("salvage: what is written is not hashed", "../../cli/command/restore.rs", "    args.check || args.salvage", "    args.check", "cli::salvage"),
    Mutant("salvage: chunks are not hashed", "restore/salvage.rs", "                self.decode(&mut held.decoder, &recipe, true, &mut raw)\n", "                Ok(())\n", "salvage::"),
    Mutant("salvage: other packs are not asked", "restore/otherwise.rs", "        if !whole.settle(disk, chunk)? {\n            return Err(damage);", "        if true {\n            return Err(damage);", "salvage:: damage::"),
    Mutant("verify: a blob that is hit is not named", "verify/hits.rs", "for blob in &manifest.body.blobs {", "for blob in manifest.body.blobs.iter().skip(1) {", "corruption::bits"),
    Mutant("verify: padding is not looked at", "verify/records.rs", "match pack.check_padding() {", "match Ok::<(), crate::Error>(()) {", "corruption::bits"),
    Mutant("verify: what nothing needs is damage", "verify/mod.rs", "            if graph.missing.is_empty() {\n", "            if false {\n", "damage::what_a_cut"),
    Mutant("save: two forks make one run", "save/publish.rs", "    if save.new_run && !is_new {", "    if false {", "damage::one_run"),
    Mutant("save: packs of others are not proved", "save/durable.rs", "synced.and_then(|()| PackFile::open_uncached(disk, &hint.pack)?.prove())", "synced", "crash::"),
    Mutant("save: packs of others are not synced", "save/durable.rs", "            let synced = disk.sync(&path);\n", "            let synced: Result<()> = Ok(());\n", "crash::"),
    Mutant("save: folders of packs are not synced", "save/durable.rs", "        disk.sync(folder)?;\n", "", "crash::no_crash"),
    Mutant("save: the manifest's folder is not synced", "save/publish.rs", "    if durable {\n        disk.sync(&path.parent())?;\n    }\n", "", "crash::no_crash"),
    Mutant("save: the manifest is not synced", "save/publish.rs", "        file.sync()?;\n", "", "crash::no_crash"),
    Mutant("save: packs are not synced", "store/pack_file.rs", "        if durable {\n            self.file.sync()?;\n        }\n", "        let _ = durable;\n", "crash::no_crash"),
    Mutant("save: without the run's lock", "save/publish.rs", "    let _ordered = store.lock_run(save.run, save.observer)?;\n", "", "chains::writers damage::one_run"),
    Mutant("save: a verified one does not try what it finds", "save/chunk.rs", "            if !self.encoder.verify || self.decodes(id, decoder)? {", "            if true {", "damage::verified"),
    Mutant("save: a damaged base is an error", "save/base_choice.rs", "                Err(error) if error.kind() == ErrorKind::Corrupt => {\n                    // Old damage", "                Err(error) if error.kind() == ErrorKind::Limit => {\n                    // Old damage", "damage::a_damaged_record"),
    Mutant("save: a worker that panics is waited for", "save/pipeline.rs", "            self.0.stop();\n", "", "damage::a_panic"),
    Mutant("save: records of relaxed checkpoints are trusted", "save/commit.rs", ".filter(is_durable) {", ".filter(|_| true) {", "crash::"),
    Mutant("parts: one that is missing is not missed", "save/parts.rs", "(0..count).find(", "(0..0).find(", "parts::"),
    Mutant("parts: their packs are not looked for", "save/parts.rs", "            for hint in &part.manifest.packs {", "            for hint in part.manifest.packs.iter().take(0) {", "parts::"),
    Mutant("parts: what is not durable is taken for it", "save/parts.rs", "                Durability::Relaxed => catalog.load_hinted(", "                Durability::Relaxed => catalog.load_settled(", "crash::"),
    Mutant("parts: what two hold may differ", "save/parts.rs", "    if alike {", "    if alike || true {", "parts::"),
    Mutant("parts: their hash is not checked", "format/part.rs", "        if hash::part_hash(told) != hash {", "        if false {", "part::tests parts::"),
    Mutant("parts: a writer stands behind a collector", "save/part.rs", "store.begin_beside_others(observer)?", "store.begin(observer)?", "parts::"),
    Mutant("save: what the device lost is not written again", "save/durable.rs", "    file.replace(&path::pack(&hint.pack))", "    Err(crate::error::Error::corrupt(\"lost\", \"\"))", "crash::regression"),
    Mutant("read: checksums of records are not checked", "store/pack_file.rs", "        if found != at.crc32 {", "        if false {", "corruption:: damage::"),
    Mutant("read: relaxed checkpoints of earlier boots count", "store/history.rs", "    placement.durability != Durability::Relaxed || same_boot()", "    true || same_boot()", "crash::"),
    Mutant("read: a pack that is gone is not looked for elsewhere", "restore/otherwise.rs", "        for _ in 0..RETRIES {", "        for _ in 0..0 {", "damage:: deletion::"),
    Mutant("read: packs that move while they are looked for are not looked for again", "restore/everywhere.rs", "            if now == listed {", "            if true {", "compaction::moving"),
    Mutant("read: what was forgotten meanwhile is called damage", "restore/everywhere.rs", "        found.map_err(|error| self.unless_gone(chunks, error))", "        found", "compaction::moving"),
    Mutant("compact: relations are not looked at", "compact/old.rs", "    let told: Vec<TensorRelation> = told.collect();", "    let told: Vec<TensorRelation> = told.take(0).collect();", "compaction::related"),
    Mutant("read: what is made durable while it is proved is lost", "store/history.rs", "    Ok(match counts_unproven(disk, &now.placement) {", "    Ok(match false && counts_unproven(disk, &now.placement) {", "compaction::moving"),
    Mutant("compact: a family has no bounds", "save/relation.rs", "members.chunks(FAMILY_MAX)", "members.chunks(usize::MAX)", "save::relation"),
    Mutant("read: any damage of a thinned checkpoint is called thinning", "restore/everywhere.rs", "chunks.find(|chunk| !needed.contains(chunk))", "chunks.next()", "compaction::moving"),
    Mutant("read: packs are all opened at once", "store/catalog.rs", ".chunks(OPENED_TOGETHER)", ".chunks(usize::MAX)", "compaction::moving"),
    Mutant("forget: what was mended meanwhile goes", "retain/forget.rs", "            Ok(_) => {}\n            Err(error) if", "            Ok(_) => still.push(place.clone()),\n            Err(error) if", "damage::"),
    Mutant("save: relations are not kept", "save/commit.rs", "    related.extend(draft.relations.clone());\n", "", "compaction::related cli::relations"),
    Mutant("fork: relations are not kept", "save/commit.rs", "    manifest.relations.clone_from(&from.relations);\n", "", "compaction::related"),
    Mutant("parts: relations are not kept", "save/commit.rs", "let mut related = draft.parts.relations();", "let mut related = draft.relations.clone();", "compaction::related"),
    Mutant("txn: what dead writers left stays", "store/txn.rs", "            Some(_held_while_removed) => disk.remove(path)?,", "            Some(_held_while_removed) => {}", "crash::"),
]


def original(tree: Path, mutant: Mutant) -> str:
    """What the file is, which holds the text once."""
    text = (tree / ENGINE / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {text.count(mutant.old)} places in {mutant.file}, not one")
    return text


def apply(tree: Path, mutant: Mutant) -> str:
    """Changes the file; returns what it was."""
    text = original(tree, mutant)
    (tree / ENGINE / mutant.file).write_text(text.replace(mutant.old, mutant.new))
    return text


def failing(tree: Path, mutant: Mutant) -> list[str] | None:
    """The tests that fail; none if the mutant does not compile."""
    target = {"CARGO_TARGET_DIR": str(ROOT / "target" / "mutants"), "MILEPOST_CRASH_STATES": "30000"}
    command = ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", "--", *mutant.tests.split(), "--skip", "crash::broken"]
    done = subprocess.run(["env", *(f"{k}={v}" for k, v in target.items()), *command], cwd=tree, capture_output=True, text=True)
    if "error: could not compile" in done.stderr:
        print(done.stderr, file=sys.stderr)
        return None
    return re.findall(r"^test (\S+) \.\.\. FAILED$", done.stdout, re.MULTILINE)


def main(words: list[str]) -> int:
    if words == ["--check"]:
        told = (ROOT / "docs/reliability.md").read_text()
        for mutant in MUTANTS:
            original(ROOT, mutant)
            if f"| {mutant.name} |" not in told:
                sys.exit(f"{mutant.name}: docs/reliability.md does not say what notices it")
        print(f"mutants: {len(MUTANTS)} can be applied")
        return 0
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in files.stdout.splitlines():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        survived = []
        print("| step that is wrong | noticed by |\n| --- | --- |", flush=True)
        for mutant in chosen:
            before = apply(tree, mutant)
            failed = failing(tree, mutant)
            (tree / ENGINE / mutant.file).write_text(before)
            if not failed:
                survived.append(mutant.name)
            others = f" and {len(failed) - 1} more" if failed and len(failed) > 1 else ""
            print(f"| {mutant.name} | {f'`{failed[0]}`{others}' if failed else '**nothing**'} |", flush=True)
    print(f"mutants: {len(chosen) - len(survived)} of {len(chosen)} noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
