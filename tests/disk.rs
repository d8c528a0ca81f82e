//! Every disk keeps the one contract: the real one, however it reads, and the simulated one.

use std::sync::Arc;

use milepost_engine::{ReaderMode, RealDisk};

use crate::support::disk_contract::{self, Oddity, Subject};
use crate::support::sim_disk::{Machine, SimDisk};

fn real(mode: ReaderMode) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep").join("store");
    let disk = Arc::new(RealDisk::create(&root, mode).unwrap());
    let other = Arc::new(RealDisk::open(&root, mode).unwrap());
    let plant = move |oddity, path: &milepost_engine::store::path::StorePath| {
        let at = folder.path().join("deep").join("store").join(path.as_str());
        match oddity {
            Oddity::Link => rustix::fs::symlink("file", &at).unwrap(),
            Oddity::FolderLink => rustix::fs::symlink("folder", &at).unwrap(),
            Oddity::Fifo => rustix::fs::mknodat(
                rustix::fs::CWD,
                &at,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap(),
        }
    };
    Subject {
        disk,
        other,
        plant: Box::new(plant),
    }
}

fn simulated(process: fn(&Arc<Machine>) -> Arc<SimDisk>) -> Subject {
    let machine = Machine::new(1);
    Subject {
        disk: process(&machine),
        other: process(&machine),
        plant: Box::new(move |_, path| machine.plant_oddity(path)),
    }
}

#[test]
fn a_real_disk_that_maps_keeps_the_contract() {
    disk_contract::hold(|| real(ReaderMode::Mmap));
}

#[test]
fn a_real_disk_that_reads_keeps_the_contract() {
    disk_contract::hold(|| real(ReaderMode::Pread));
}

#[test]
fn a_simulated_disk_that_maps_keeps_the_contract() {
    disk_contract::hold(|| simulated(Machine::process));
}

#[test]
fn a_simulated_disk_that_reads_keeps_the_contract() {
    disk_contract::hold(|| simulated(Machine::process_that_reads));
}
