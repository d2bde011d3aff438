"""Certificates of an authority that no hub trusts."""

import subprocess
from pathlib import Path


def make_certificate(directory: Path, names: list[str]) -> tuple[Path, Path]:
    """A certificate for `names` from a new authority of its own; returns certificate and key file."""
    directory.mkdir(parents=True, exist_ok=True)
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    extensions = directory / "extensions"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
    for command in (
        ["req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=foreign authority",
         "-addext", "basicConstraints=critical,CA:TRUE"],
        ["req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", f"/CN={names[0]}"],
        ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", extensions.name, "-out", "leaf.crt"],
    ):
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)
    return directory / "leaf.crt", directory / "leaf.key"
