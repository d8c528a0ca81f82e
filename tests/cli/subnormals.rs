//! A process that flushes subnormal numbers to zero, as training programs do, restores and saves
//! the same bytes.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::path::Path;
use std::process::Command;

use crate::support::command::TestFolder;
use crate::support::golden;

/// Sets flush-to-zero and denormals-are-zero before `main`; threads inherit them. It ends the
/// process if the processor does not do as it was told.
const FLUSHES: &str = r"
#include <stdlib.h>
#include <xmmintrin.h>
__attribute__((constructor)) static void flush(void) {
    _mm_setcsr(_mm_getcsr() | 0x8040);
    volatile float least = 0x1p-126f, half = 0.5f;
    volatile float made = least * half;
    if (made != 0.0f) abort();
}
";

/// A library that does it, for `LD_PRELOAD`.
fn flushing_library(test: &TestFolder) -> String {
    test.write("flush.c", FLUSHES.as_bytes());
    let library = test.path("flush.so").to_str().unwrap().to_owned();
    let built = Command::new("cc")
        .args(["-O0", "-shared", "-fPIC", "-o", &library])
        .arg(test.path("flush.c"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    library
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

#[test]
fn predictions_do_not_depend_on_subnormals_being_flushed() {
    let test = TestFolder::empty();
    let library = flushing_library(&test);
    copied(&golden::root().join("good/predicted"), &test.path("store"));
    for step in ["step:0", "step:1", "step:2"] {
        let args = ["-s", "store", "restore", step, "-o", "-", "-q", "--check"];
        let plain = test.raw(&args);
        assert!(
            plain.status.success() && plain.stdout.len() > 30_000,
            "{plain:?}"
        );
        let flushed = test
            .command(&args)
            .env("LD_PRELOAD", &library)
            .output()
            .unwrap();
        assert!(
            flushed.status.success(),
            "{}",
            String::from_utf8_lossy(&flushed.stderr)
        );
        assert!(flushed.stdout == plain.stdout, "{step}");
        // What such a process saves, others read.
        test.write("state.safetensors", &plain.stdout);
        let save = [
            "-s",
            "new",
            "save",
            "state.safetensors",
            "--step",
            &step[5..],
        ];
        if step == "step:0" {
            test.ok(&["-s", "new", "init", "--chunk-size", "4KiB"]);
        }
        let related = [
            "--relate",
            "model.w=adam:optim.exp_avg.w,optim.exp_avg_sq.w",
            "--relate",
            "ema.w=average:model.w",
        ];
        let saved = test
            .command(&save)
            .args(related)
            .env("LD_PRELOAD", &library)
            .output();
        assert!(saved.unwrap().status.success());
        let back = test.raw(&["-s", "new", "restore", step, "-o", "-", "-q", "--check"]);
        assert!(
            back.status.success() && back.stdout == plain.stdout,
            "{step} saved anew"
        );
    }
}
