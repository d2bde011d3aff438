//! Processes that outlive the command that started them.
//!
//! A process is known by its pid file, which holds the pid and the time at which the kernel started
//! it. Both are compared before any signal is sent, so that a pid which the kernel has given to
//! somebody else in the meantime is never hit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::service_user::ServiceUser;

/// How often a process is looked at while something is awaited from it. The kernel tells only a
/// parent when a process ends, and the command that stops a process is seldom its parent.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A log file above this size, in bytes, is moved to `<name>.1` at the next start.
const LOG_SIZE: u64 = 16 * 1024 * 1024;

/// What to start and where to keep track of it.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Name for messages, such as `Prosody of hub-a.example`.
    pub name: &'a str,
    /// Program with its arguments, environment and directory.
    pub command: Command,
    /// Standard output and standard error are appended here.
    pub log_file: PathBuf,
    /// Where the pid and the start time are written.
    pub pid_file: PathBuf,
    /// Run as this user instead of the current one.
    pub user: Option<ServiceUser>,
}

/// A process that this process has started. Dropping it leaves the process running.
#[derive(Debug)]
pub struct Started {
    name: String,
    child: Child,
    log_file: PathBuf,
}

/// What a pid file says about its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The process runs under this pid.
    Running(i32),
    /// There is no such process (any more).
    Stopped,
}

/// How [`stop`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// There was nothing to stop.
    NotRunning,
    /// It ended by itself after SIGTERM.
    Terminated,
    /// It did not end in time and was killed.
    Killed,
}

impl Launch<'_> {
    /// Starts the process in a session of its own, so that it survives the terminal.
    ///
    /// # Errors
    /// The process of the pid file still runs, the program is missing, or a file cannot be written.
    pub fn start(self) -> Result<Started> {
        if let Status::Running(pid) = status(&self.pid_file)? {
            bail!("{} already runs as process {pid}", self.name);
        }
        rotate(&self.log_file)?;
        let log = append_to(&self.log_file)?;
        let mut command = detached(&self.command);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share the log file")?).stderr(log);
        if let Some(user) = self.user {
            // The standard library also drops the supplementary groups when it runs as root.
            command.uid(user.uid).gid(user.gid);
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start {} ({})", self.name, self.command.get_program().display()))?;
        let pid = i32::try_from(child.id()).context("a pid beyond the kernel's range")?;
        let Some(start_time) = start_time(pid)? else {
            let status = child.wait().context("cannot learn how the process ended")?;
            bail!("{} ended at once ({status})\n{}", self.name, last_lines(&self.log_file));
        };
        write_private(&self.pid_file, format!("{pid} {start_time}\n").as_bytes())?;
        Ok(Started { name: self.name.to_owned(), child, log_file: self.log_file })
    }
}

impl Started {
    /// How the process ended, or `None` while it runs.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot look after {}", self.name))
    }

    /// Waits until every address accepts connections.
    ///
    /// # Errors
    /// The process ends before, or `patience` is over; both texts carry the last lines of the log.
    pub async fn accepts(&mut self, addresses: &[SocketAddr], patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        for address in addresses {
            loop {
                if let Some(status) = self.exit_status()? {
                    bail!("{} ended ({status})\n{}", self.name, last_lines(&self.log_file));
                }
                if matches!(timeout(patience, TcpStream::connect(address)).await, Ok(Ok(_))) {
                    break;
                }
                if Instant::now() >= deadline {
                    bail!("{} does not listen on {address}\n{}", self.name, last_lines(&self.log_file));
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        // Somebody else may hold the port, in which case this process has given up by now.
        match self.exit_status()? {
            Some(status) => bail!("{} ended ({status})\n{}", self.name, last_lines(&self.log_file)),
            None => Ok(()),
        }
    }
}

/// Whether the process of this pid file runs.
pub fn status(pid_file: &Path) -> Result<Status> {
    let Some((pid, started)) = read_pid_file(pid_file)? else {
        return Ok(Status::Stopped);
    };
    Ok(if start_time(pid)? == Some(started) { Status::Running(pid) } else { Status::Stopped })
}

/// Ends the process of this pid file: SIGTERM first, SIGKILL when it still runs after `grace`.
/// The pid file is removed.
pub async fn stop(pid_file: &Path, grace: Duration) -> Result<Stopped> {
    let Status::Running(pid) = status(pid_file)? else {
        remove_if_there(pid_file)?;
        return Ok(Stopped::NotRunning);
    };
    let outcome = if signal_and_wait(pid_file, pid, Signal::SIGTERM, grace).await? {
        Stopped::Terminated
    } else if signal_and_wait(pid_file, pid, Signal::SIGKILL, Duration::from_secs(5)).await? {
        Stopped::Killed
    } else {
        bail!("process {pid} cannot be killed");
    };
    remove_if_there(pid_file)?;
    Ok(outcome)
}

/// The end of a log file, for messages: at most 20 lines of at most 8 KiB.
pub fn last_lines(log_file: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log_file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(8192)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let start = lines.len().saturating_sub(20);
            format!("last lines of {}:\n{}", log_file.display(), lines[start..].join("\n"))
        }
        Err(error) => format!("its log {} cannot be read: {error}", log_file.display()),
    }
}

/// Writes a file that only its owner can read, replacing what was there in one step.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension("new");
    remove_if_there(&draft)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

async fn signal_and_wait(pid_file: &Path, pid: i32, signal: Signal, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot signal process {pid}")),
    }
    while status(pid_file)? != Status::Stopped {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

// util-linux's setsid becomes the program itself, in a new session and under the same pid. The
// standard library offers a new process group only, and more would need unsafe code.
fn detached(command: &Command) -> Command {
    let mut detached = Command::new("setsid");
    detached.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => detached.env(name, value),
            None => detached.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        detached.current_dir(directory);
    }
    detached
}

fn read_pid_file(pid_file: &Path) -> Result<Option<(i32, u64)>> {
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", pid_file.display())),
    };
    let mut fields = text.split_whitespace();
    let pid = fields.next().and_then(|field| field.parse().ok());
    let started = fields.next().and_then(|field| field.parse().ok());
    // Zero and below would address whole process groups.
    Ok(pid.zip(started).filter(|(pid, _)| *pid > 0))
}

// The 22nd field of /proc/<pid>/stat, in clock ticks since the machine started (proc(5)); `None`
// for a process that is gone or only waits for its parent to notice its end.
fn start_time(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    match fs::read_to_string(&path) {
        Ok(stat) => Ok(parse_start_time(&stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may contain anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).with_context(|| format!("cannot open the log {}", path.display()))
}

fn rotate(log_file: &Path) -> Result<()> {
    let large = fs::metadata(log_file).is_ok_and(|metadata| metadata.len() > LOG_SIZE);
    if large {
        let mut former = log_file.as_os_str().to_owned();
        former.push(".1");
        fs::rename(log_file, &former).with_context(|| format!("cannot move {} away", log_file.display()))?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(dir: &Path, program: &str, arguments: &[&str]) -> Launch<'static> {
        let mut command = Command::new(program);
        command.args(arguments);
        Launch { name: "the test process", command, log_file: dir.join("log"), pid_file: dir.join("pid"), user: None }
    }

    #[test]
    fn the_start_time_is_read_behind_any_program_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time(&stat.replace(") S ", ") Z ")), None, "a zombie does not run");
        assert_eq!(parse_start_time(""), None);
    }

    #[tokio::test]
    async fn a_process_is_started_once_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        launch(dir.path(), "sleep", &["1000"]).start().unwrap();
        assert!(matches!(status(&dir.path().join("pid")).unwrap(), Status::Running(_)));
        assert!(launch(dir.path(), "sleep", &["1000"]).start().is_err(), "it runs already");
        assert_eq!(stop(&dir.path().join("pid"), Duration::from_secs(10)).await.unwrap(), Stopped::Terminated);
        assert_eq!(status(&dir.path().join("pid")).unwrap(), Status::Stopped);
        assert_eq!(stop(&dir.path().join("pid"), Duration::ZERO).await.unwrap(), Stopped::NotRunning);
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut started = launch(dir.path(), "bash", &["-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]).start().unwrap();
        while !last_lines(&dir.path().join("log")).contains("deaf") {
            assert_eq!(started.exit_status().unwrap(), None);
            tokio::task::yield_now().await;
        }
        assert_eq!(stop(&dir.path().join("pid"), Duration::from_millis(50)).await.unwrap(), Stopped::Killed);
    }

    #[tokio::test]
    async fn a_reused_pid_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(bystander.id()).unwrap();
        let other_start = start_time(pid).unwrap().unwrap() - 1;
        write_private(&dir.path().join("pid"), format!("{pid} {other_start}\n").as_bytes()).unwrap();
        assert_eq!(stop(&dir.path().join("pid"), Duration::ZERO).await.unwrap(), Stopped::NotRunning);
        assert_eq!(bystander.try_wait().unwrap(), None, "the bystander still runs");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut started = launch(dir.path(), "bash", &["-c", "echo no such database; exit 3"]).start().unwrap();
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let problem = started.accepts(&[unused], Duration::from_secs(10)).await.unwrap_err().to_string();
        assert!(problem.contains("exit status: 3") && problem.contains("no such database"), "{problem}");
    }

    #[test]
    fn a_pid_file_cannot_name_a_process_group() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["-1 5\n", "0 5\n", "x", "", "12"] {
            fs::write(dir.path().join("pid"), text).unwrap();
            assert_eq!(status(&dir.path().join("pid")).unwrap(), Status::Stopped, "{text:?}");
        }
    }
}
