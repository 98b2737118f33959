"""The pooled HTTP client for DigitalOcean's API, as the environment's proxy and certificate settings have it."""

import ssl
from functools import partial

import httpx

from dbclusterref.digitalocean.client import TIMEOUT
from dbclusterref.digitalocean.traffic import MeasuredClient, Traffic
from dbclusterref.errors import SettingsError

VARIABLES = "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"


def make_client(*, user_agent: str, connections: int = 4, traffic: Traffic | None = None) -> httpx.AsyncClient:
    """Make the client; `connections` stay open at the most, twice as many may be used at once. `traffic` records requests.

    Raises SettingsError, naming the variables, where the environment's proxy or certificate settings cannot be used.
    """
    try:
        make = partial(MeasuredClient, traffic) if traffic else httpx.AsyncClient
        # One for both transports: to read the certificates takes 30 ms.
        certificates = httpx.create_ssl_context()
        return make(
            verify=certificates,
            timeout=TIMEOUT,
            # The token goes to the configured host alone, wherever a reply points.
            follow_redirects=False,
            headers={"User-Agent": user_agent, "Accept": "application/json"},
            limits=httpx.Limits(max_connections=connections * 2, max_keepalive_connections=connections),
            # A proxy would see the token of a plain http:// request; https:// goes through it as a tunnel.
            mounts={
                "http://": httpx.AsyncHTTPTransport(verify=certificates, limits=httpx.Limits(max_connections=connections * 2))
            },
        )
    except (httpx.InvalidURL, ImportError, OSError, ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"the environment's proxy or certificate settings cannot be used ({type(error).__name__}); check {VARIABLES}."
        ) from None
