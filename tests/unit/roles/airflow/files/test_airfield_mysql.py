from __future__ import annotations

import runpy
import ssl
from pathlib import Path

FILE = Path(__file__).parents[5] / "roles/airflow/files/airfield_mysql.py"


def test_driver_gets_what_encrypts_as_ssl_mode_required_does() -> None:
    tls = runpy.run_path(str(FILE))["tls"]
    # Those are arguments of aiomysql.connect.
    assert list(tls) == ["ssl", "connect_timeout"]
    assert isinstance(tls["ssl"], ssl.SSLContext)
    assert (tls["ssl"].verify_mode, tls["ssl"].check_hostname) == (ssl.CERT_NONE, False)
