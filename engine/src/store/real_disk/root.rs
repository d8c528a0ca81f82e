//! The store's folder: every name is resolved below it, and no link is followed on the way.

use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use crate::store::path::StorePath;

/// What a folder on the way is opened for.
const TO_PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// The open folder in which all paths of a store begin.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(folder: OwnedFd) -> Self {
        Self(folder)
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.0
    }

    /// Opens what is at a path; what is made gets the mode of a lock file.
    pub(super) fn open(&self, path: &StorePath, flags: OFlags) -> Result<OwnedFd> {
        let text = match path.as_str() {
            "" => ".",
            text => text,
        };
        let mut flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // What is only passed is not opened, and cannot be waited for.
        flags.set(OFlags::NONBLOCK, !flags.contains(OFlags::PATH));
        let mode = match flags.contains(OFlags::CREATE) {
            true => Mode::from_raw_mode(0o644),
            false => Mode::empty(),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match fs::openat2(&self.0, text, flags, mode, resolve) {
            // Old kernels and some sandboxes lack the call.
            Err(Errno::NOSYS | Errno::PERM) => self.walk(text, flags, mode),
            done => done,
        }
    }

    /// The folder that a path lies in, for calls that take a folder and a name in it: those
    /// would follow links on a longer way.
    pub(super) fn parent(&self, path: &StorePath) -> Result<OwnedFd> {
        self.open(&path.parent(), TO_PASS)
    }

    /// As [`Root::open`], one folder after the other.
    fn walk(&self, text: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let (folders, name) = text.rsplit_once('/').unwrap_or(("", text));
        let mut passed: Option<OwnedFd> = None;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let at = passed.as_ref().unwrap_or(&self.0);
            let to_pass = TO_PASS | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            passed = Some(fs::openat(at, part, to_pass, Mode::empty())?);
        }
        fs::openat(passed.as_ref().unwrap_or(&self.0), name, flags, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::path;

    /// Where a kernel lacks the call that does it at once.
    #[test]
    fn a_walk_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = Root::new(fs::open(dir.path(), flags, Mode::empty()).unwrap());
        let run = path::run_folder("main").unwrap();
        let open = || {
            root.walk(
                run.as_str(),
                OFlags::RDONLY | OFlags::NOFOLLOW,
                Mode::empty(),
            )
        };
        assert_eq!(open().unwrap_err(), Errno::NOENT);
        let (real, link) = (at("real"), at("runs"));
        for folder in [&real, &real.join("main")] {
            fs::mkdirat(fs::CWD, folder, Mode::from_raw_mode(0o755)).unwrap();
        }
        fs::symlinkat(&real, fs::CWD, &link).unwrap();
        assert_eq!(open().unwrap_err(), Errno::NOTDIR);
        fs::unlinkat(fs::CWD, &link, fs::AtFlags::empty()).unwrap();
        fs::renameat(fs::CWD, &real, fs::CWD, &link).unwrap();
        open().unwrap();
        root.walk(".", OFlags::RDONLY, Mode::empty()).unwrap();
    }
}
