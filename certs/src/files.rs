//! Key and certificate files: written atomically, read only when nobody else can read them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::PublicKeyData as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::error::{CertError, FileProblem};

/// Largest file that is read: a chain of certificates stays far below it.
const MAX_FILE: u64 = 256 * 1024;

/// What to do when the file is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Fail with [`FileProblem::Exists`].
    Refuse,
    /// Replace it.
    Replace,
}

fn file_error(setting: &str, path: &Path, problem: FileProblem, source: Option<io::Error>) -> CertError {
    CertError::File { setting: setting.to_owned(), path: path.to_owned(), problem, source }
}

fn read(setting: &str, path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, CertError> {
    let fail = |problem, source| file_error(setting, path, problem, source);
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fail(FileProblem::Missing, Some(error)),
        _ => fail(FileProblem::Unreadable, Some(error)),
    })?;
    // The open handle is asked, so that the file judged is the file read.
    let about = file.metadata().map_err(|error| fail(FileProblem::Unreadable, Some(error)))?;
    if !about.is_file() {
        return Err(fail(FileProblem::Unreadable, None));
    }
    if private && about.permissions().mode() & 0o077 != 0 {
        return Err(fail(FileProblem::TooOpen, None));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| fail(FileProblem::Unreadable, Some(error)))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail(FileProblem::TooLarge, None));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(fail(FileProblem::Empty, None));
    }
    Ok(bytes)
}

/// Reads a secret file. `setting` is the name that the operator knows it by.
///
/// # Errors
/// When it is missing, unreadable, empty, larger than 256 KiB, or readable by its group or by others.
pub fn read_private(setting: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, CertError> {
    read(setting, path, true)
}

/// Reads a public file, for instance a certificate.
///
/// # Errors
/// When it is missing, unreadable, empty or larger than 256 KiB.
pub fn read_public(setting: &str, path: &Path) -> Result<Vec<u8>, CertError> {
    read(setting, path, false).map(|bytes| bytes.to_vec())
}

/// Where PEM text is.
#[derive(Clone, Copy)]
pub enum Pem<'a> {
    /// In a file.
    File(&'a Path),
    /// Here. Perhaps a secret.
    Text(&'a str),
}
impl<'a> Pem<'a> {
    /// PEM text itself, or the path of a file with it.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        if text.contains("-----BEGIN") { Self::Text(text) } else { Self::File(Path::new(text)) }
    }
    fn read(self, setting: &str, private: bool) -> Result<Zeroizing<Vec<u8>>, CertError> {
        match self {
            Self::File(path) => read(setting, path, private),
            Self::Text(text) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        }
    }
    fn fails(self, setting: &str, problem: FileProblem) -> CertError {
        match self {
            Self::File(path) => file_error(setting, path, problem, None),
            Self::Text(_) if problem == FileProblem::Mismatch => CertError::Mismatch(setting.to_owned()),
            Self::Text(_) => CertError::Pem(setting.to_owned()),
        }
    }
}
impl<'a> From<&'a Path> for Pem<'a> {
    fn from(path: &'a Path) -> Self {
        Self::File(path)
    }
}
impl<'a> From<&'a PathBuf> for Pem<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::File(path)
    }
}

/// Reads PEM text of one or more certificates, leaf first.
///
/// # Errors
/// As [`read_public`], or when it holds no certificate or something unparsable.
pub fn load_chain<'a>(setting: &str, pem: impl Into<Pem<'a>>) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let pem = pem.into();
    let bytes = pem.read(setting, false)?;
    let unparsable = || pem.fails(setting, FileProblem::Unparsable);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| unparsable())?;
    if chain.is_empty() || chain.iter().any(|der| x509_parser::parse_x509_certificate(der).is_err()) {
        return Err(unparsable());
    }
    Ok(chain)
}

/// Reads PEM text of one private key.
///
/// # Errors
/// As [`read_private`], or when it is not an ECDSA P-256 key in PKCS#8.
pub fn load_key<'a>(setting: &str, pem: impl Into<Pem<'a>>) -> Result<PrivateKeyDer<'static>, CertError> {
    let pem = pem.into();
    let bytes = pem.read(setting, true)?;
    let unparsable = || pem.fails(setting, FileProblem::Unparsable);
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| unparsable())?;
    rcgen::KeyPair::try_from(&key).map_err(|_| unparsable())?;
    Ok(key)
}

/// Reads PEM text of one public key (SPKI) and compares it with a private key.
///
/// # Errors
/// As [`read_public`], when it is no public key, or [`FileProblem::Mismatch`] when it is another one than that of `key`.
pub fn check_public_half<'a>(setting: &str, pem: impl Into<Pem<'a>>, key: &PrivateKeyDer<'_>) -> Result<(), CertError> {
    let pem = pem.into();
    let bytes = pem.read(setting, false)?;
    let public = SubjectPublicKeyInfoDer::from_pem_slice(&bytes).map_err(|_| pem.fails(setting, FileProblem::Unparsable))?;
    let pair = rcgen::KeyPair::try_from(key).map_err(|_| pem.fails(setting, FileProblem::Mismatch))?;
    if public.as_ref() == pair.subject_public_key_info() { Ok(()) } else { Err(pem.fails(setting, FileProblem::Mismatch)) }
}

/// A certificate chain, leaf first, and the leaf's private key.
pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads a certificate chain and its key. `setting` is the common prefix: `<setting>.certificate` and `<setting>.key` are named in errors.
///
/// # Errors
/// As [`load_chain`] and [`load_key`], or when the two do not belong together.
pub fn load_pair<'a>(setting: &str, certificate: impl Into<Pem<'a>>, key: impl Into<Pem<'a>>) -> Result<Pair, CertError> {
    let key = key.into();
    let chain = load_chain(&format!("{setting}.certificate"), certificate)?;
    let key_setting = format!("{setting}.key");
    let private = load_key(&key_setting, key)?;
    let mismatch = || key.fails(&key_setting, FileProblem::Mismatch);
    let pair = rcgen::KeyPair::try_from(&private).map_err(|_| mismatch())?;
    let leaf = chain.first().and_then(|der| x509_parser::parse_x509_certificate(der).ok()).ok_or_else(mismatch)?.1;
    if leaf.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
        return Err(mismatch());
    }
    Ok((chain, private))
}

/// Writes a secret file with mode 0600: temporary file, fsync, atomic rename, fsync of the directory. After a crash either the old
/// file or the whole new one is there.
///
/// # Errors
/// [`FileProblem::Exists`] when it is there and `overwrite` refuses; [`FileProblem::Unwritable`] otherwise.
pub fn write_private(setting: &str, path: &Path, bytes: &[u8], overwrite: Overwrite) -> Result<(), CertError> {
    write(setting, path, bytes, overwrite, 0o600)
}

/// Writes a public file with mode 0644, in the same way as [`write_private`].
///
/// # Errors
/// As [`write_private`].
pub fn write_public(setting: &str, path: &Path, bytes: &[u8], overwrite: Overwrite) -> Result<(), CertError> {
    write(setting, path, bytes, overwrite, 0o644)
}

fn write(setting: &str, path: &Path, bytes: &[u8], overwrite: Overwrite, mode: u32) -> Result<(), CertError> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => file_error(setting, path, FileProblem::Exists, Some(error)),
        _ => file_error(setting, path, FileProblem::Unwritable, Some(error)),
    };
    let name = path.file_name().ok_or_else(|| file_error(setting, path, FileProblem::Unwritable, None))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if overwrite == Overwrite::Refuse && fs::symlink_metadata(path).is_ok() {
        return Err(file_error(setting, path, FileProblem::Exists, None));
    }
    let temporary = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    // A left-over of a crashed process with the same id is ours to replace.
    let _ = fs::remove_file(&temporary);
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match overwrite {
            Overwrite::Replace => fs::rename(&temporary, path)?,
            // Unlike a rename, a link never replaces: two writers cannot both win.
            Overwrite::Refuse => fs::hard_link(&temporary, path)?,
        }
        File::open(directory)?.sync_all()
    })();
    let _ = fs::remove_file(&temporary);
    result.map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem<T>(result: Result<T, CertError>) -> Option<FileProblem> {
        let error = result.err()?;
        assert!(error.to_string().starts_with("federation.key: "), "{error}");
        error.file_problem()
    }

    #[test]
    fn a_key_file_that_cannot_be_trusted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        assert_eq!(problem(load_key("federation.key", &path)), Some(FileProblem::Missing));
        assert_eq!(problem(load_key("federation.key", dir.path())), Some(FileProblem::Unreadable));
        let cases: [(&[u8], FileProblem); 3] = [
            (b" \n", FileProblem::Empty),
            (b"not a key", FileProblem::Unparsable),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", FileProblem::Unparsable),
        ];
        for (text, expected) in cases {
            write_private("federation.key", &path, text, Overwrite::Replace).unwrap();
            assert_eq!(problem(load_key("federation.key", &path)), Some(expected));
        }
        let large = vec![b'a'; usize::try_from(MAX_FILE).unwrap() + 1];
        write_private("federation.key", &path, &large, Overwrite::Replace).unwrap();
        assert_eq!(problem(load_key("federation.key", &path)), Some(FileProblem::TooLarge));
        let pem = crate::create_signing_key().unwrap();
        write_private("federation.key", &path, pem.as_bytes(), Overwrite::Replace).unwrap();
        load_key("federation.key", &path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(problem(load_key("federation.key", &path)), Some(FileProblem::TooOpen), "{mode:o}");
        }
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_private("federation.key", &path, b"one", Overwrite::Refuse).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(problem(write_private("federation.key", &path, b"two", Overwrite::Refuse)), Some(FileProblem::Exists));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_private("federation.key", &path, b"two", Overwrite::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = crate::Authority::create("hub-a.example").unwrap();
        let issue = || authority.issue(&crate::Leaf::server("hub-a.example").unwrap()).unwrap();
        let (one, two) = (issue(), issue());
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        write_public("federation.certificate", &certificate, one.certificate_pem.as_bytes(), Overwrite::Replace).unwrap();
        write_private("federation.key", &key, two.key_pem.as_bytes(), Overwrite::Replace).unwrap();
        assert_eq!(problem(load_pair("federation", &certificate, &key)), Some(FileProblem::Mismatch));
        write_private("federation.key", &key, one.key_pem.as_bytes(), Overwrite::Replace).unwrap();
        load_pair("federation", &certificate, &key).unwrap();
    }
}
