//! Who holds a TCP port. A server whose port is taken may start without it (Prosody does), so the
//! ports are tried before the server starts.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// How long a port may still be held by what is left of a killed server: Prosody's resolver is a child process that has inherited
/// the listeners and ends a moment after its parent.
const LINGER: Duration = Duration::from_secs(3);

/// Waits until all addresses are free; if one is not, fails with the port and the name of the process that holds it.
pub async fn require_free(addresses: &[SocketAddr]) -> Result<()> {
    let deadline = Instant::now() + LINGER;
    for address in addresses {
        while let Err(error) = TcpListener::bind(address).await {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
            if Instant::now() >= deadline {
                let owner = owner_of(*address).unwrap_or_else(|| "a process of another user".to_owned());
                bail!("port {} on {} is taken by {owner}", address.port(), address.ip());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

// Linux lists the listening sockets with their inodes (proc(5), /proc/net/tcp), and each process's
// open sockets as links to `socket:[inode]`.
fn owner_of(address: SocketAddr) -> Option<String> {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let inode = listening_inode(&fs::read_to_string(table).ok()?, address.port())?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        if holds(&process.path(), &link) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}

fn holds(process: &Path, link: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link))
}

fn listening_inode(table: &str, port: u16) -> Option<u64> {
    const LISTENING: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && *state == LISTENING).then(|| inode.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_itself_and_its_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let message = require_free(&[address]).await.unwrap_err().to_string();
        assert!(message.contains(&address.port().to_string()), "{message}");
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(listener);
        require_free(&[address]).await.unwrap();
    }
}
