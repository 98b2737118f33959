"""HTTP without TLS, as the tests' own servers speak it on loopback."""

import ssl

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""`verify=` of a client for http:// alone: it trusts nobody. Reading the system's certificates takes 30 ms for each client."""
