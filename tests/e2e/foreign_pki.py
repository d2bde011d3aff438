"""Certificates that no hub has: of an authority of their own, or of the mesh."""

import subprocess
from pathlib import Path


def make_certificate(directory: Path, names: list[str], authority: tuple[Path, Path] | None = None) -> tuple[Path, Path]:
    """A certificate for `names` from `authority`, or a new one of its own; returns certificate and key file."""
    directory.mkdir(parents=True, exist_ok=True)
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    extensions = directory / "extensions"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
    new_authority = [["req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=foreign authority",
                      "-addext", "basicConstraints=critical,CA:TRUE"]]
    ca, ca_key = authority or (Path("ca.crt"), Path("ca.key"))
    for command in (
        *([] if authority else new_authority),
        ["req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", f"/CN={names[0]}"],
        ["x509", "-req", "-in", "leaf.csr", "-CA", str(ca), "-CAkey", str(ca_key), "-set_serial", "1", "-days", "2",
         "-extfile", extensions.name, "-out", "leaf.crt"],
    ):
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)
    return directory / "leaf.crt", directory / "leaf.key"
