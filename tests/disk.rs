//! Every disk keeps the one contract: the real one, however it reads, and the simulated one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use milepost_engine::store::disk::Disk;
use milepost_engine::store::path::{self, Folder};
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

/// An hour of writers, readers and a collector met readers to whom a checkpoint was listed twice,
/// so that its step named "several": on tmpfs, a name that is replaced moves to the end of its
/// folder, and who reads the folder meanwhile may meet it twice, or not at all.
#[test]
fn a_name_that_is_replaced_meanwhile_is_listed_once() {
    let memory = std::path::Path::new("/dev/shm");
    let folder = match tempfile::tempdir_in(memory) {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let root = folder.path().join("store");
    let disk = RealDisk::create(&root, ReaderMode::Auto).unwrap();
    let name = |number: u8| path::tag(&format!("tag-{number}")).unwrap();
    let put = |number: u8| {
        let mut file = disk.create(1).unwrap();
        file.write(b"x").unwrap();
        file.replace(&name(number)).unwrap();
    };
    disk.make_folder(&path::folder(Folder::Txn)).unwrap();
    disk.make_folder(&path::folder(Folder::Tags)).unwrap();
    (0..200).for_each(put);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                (0..200).for_each(put);
            }
        });
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            let listed = disk.list(&path::folder(Folder::Tags)).unwrap();
            let mut names: Vec<String> = listed.into_iter().map(|e| e.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            if (all, names.len()) != (200, 200) {
                done.store(true, Ordering::Relaxed);
                panic!("{} names, {} of them once", all, names.len());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
