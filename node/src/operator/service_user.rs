//! The unprivileged account that servers run as when the hub itself was started by root.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A user of the operating system by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceUser {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric id of the user's primary group.
    pub gid: u32,
}

impl ServiceUser {
    /// The first of `names` that exists on this machine.
    pub fn first_of(names: &[&str]) -> Option<Self> {
        let accounts = fs::read_to_string("/etc/passwd").ok()?;
        names.iter().find_map(|name| Self::in_accounts(&accounts, name))
    }

    // passwd(5): name:password:uid:gid:...
    fn in_accounts(accounts: &str, name: &str) -> Option<Self> {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { uid, gid })
        })
    }

    /// Whether this user can pass through every directory above `path`.
    pub fn can_reach(self, path: &Path) -> Result<bool> {
        let absolute = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
        for directory in absolute.ancestors().skip(1) {
            let metadata = fs::metadata(directory).with_context(|| format!("cannot read {}", directory.display()))?;
            let shift = if metadata.uid() == self.uid {
                6
            } else if metadata.gid() == self.gid {
                3
            } else {
                0
            };
            if metadata.mode() >> shift & 0o1 == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives `path` and everything below it to this user.
    pub fn take_over(self, path: &Path) -> Result<()> {
        each_below(path, &|path, metadata| {
            if (metadata.uid(), metadata.gid()) == (self.uid, self.gid) {
                return Ok(());
            }
            chown(path, Some(self.uid), Some(self.gid))
        })
    }

    /// Lets this user's group read `path` and everything below it, and nobody but the owner change it.
    pub fn let_read(self, path: &Path) -> Result<()> {
        each_below(path, &|path, metadata| {
            chown(path, None, Some(self.gid))?;
            fs::set_permissions(path, Permissions::from_mode(if metadata.is_dir() { 0o750 } else { 0o640 }))
        })
    }
}

// Symbolic links are left alone: who may write below could point them at anything.
fn each_below(path: &Path, act: &dyn Fn(&Path, &Metadata) -> io::Result<()>) -> Result<()> {
    let mut remaining: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(next) = remaining.pop() {
        let metadata = fs::symlink_metadata(&next).with_context(|| format!("cannot read {}", next.display()))?;
        if metadata.is_symlink() {
            continue;
        }
        act(&next, &metadata).with_context(|| format!("cannot set the owner of {}", next.display()))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))? {
                remaining.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// The user for a server that keeps its files in `dir`: `preferred` or `nobody` when this process
/// runs as root, the current user (`None`) otherwise.
///
/// Only where that user cannot reach the directory (a project in root's home, say) the server runs as
/// root, inside its own closed directory: the alternative would be to open root's home to others.
pub fn for_server(name: &str, preferred: &str, dir: &Path) -> Result<Option<ServiceUser>> {
    if !is_root() {
        return Ok(None);
    }
    match ServiceUser::first_of(&[preferred, "nobody"]) {
        Some(user) if user.can_reach(dir)? => Ok(Some(user)),
        _ => {
            tracing::warn!(dir = %dir.display(), "{name} runs as root: no unprivileged user can reach its directory");
            Ok(None)
        }
    }
}

/// Protects a server's directory. Its user owns `data` and reads `config`; the pid file and the log
/// beside them stay with the starter, so that a broken-into server cannot make it signal other
/// processes or write into other files.
pub fn hand_over(user: Option<ServiceUser>, dir: &Path) -> Result<()> {
    let protect = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("cannot protect {}", path.display()))
    };
    protect(dir, if user.is_some() { 0o711 } else { 0o700 })?;
    protect(&dir.join("data"), 0o700)?;
    let Some(user) = user else { return Ok(()) };
    user.take_over(&dir.join("data"))?;
    user.let_read(&dir.join("config"))
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // The kernel gives a process's directory to its effective user (proc(5)).
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let accounts = "prosody2:x:1:1::/:/x\nprosody:x:104:112:,,:/var/lib/prosody:/usr/sbin/nologin\nbad:x:y:z\n";
        assert_eq!(ServiceUser::in_accounts(accounts, "prosody"), Some(ServiceUser { uid: 104, gid: 112 }));
        assert_eq!(ServiceUser::in_accounts(accounts, "pros"), None);
        assert_eq!(ServiceUser::in_accounts(accounts, "bad"), None);
    }

    #[test]
    fn a_closed_directory_on_the_way_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("closed/inner");
        fs::create_dir_all(&inner).unwrap();
        let stranger = ServiceUser { uid: 54_321, gid: 54_321 };
        let set_mode = |path: &Path, mode| {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        set_mode(root.path(), 0o755);
        set_mode(&root.path().join("closed"), 0o700);
        assert!(!stranger.can_reach(&inner).unwrap());
        set_mode(&root.path().join("closed"), 0o711);
        assert!(stranger.can_reach(&inner).unwrap());
    }
}
