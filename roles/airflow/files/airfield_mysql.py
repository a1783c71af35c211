"""What Airflow's asynchronous driver for MySQL needs to encrypt, as `ssl_mode=REQUIRED` makes the other one do it.

Airflow reads it by `[database] sql_alchemy_connect_args_async`: neither an option nor a URL can express it. That the server is
the right one is not checked, as with that mode.
"""

from __future__ import annotations

import ssl

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
tls = {"ssl": context, "connect_timeout": 10}
