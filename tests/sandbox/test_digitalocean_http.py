"""The simulator over real sockets: every fault, the control client, the program."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from sandbox.digitalocean import DEFAULT_TOKEN, Control, ControlError, serve_simulator, start_simulator
from sandbox.digitalocean.faults import Fault, FaultBook, FaultKind, Target
from sandbox.digitalocean.generate import HOSTILE_CHARACTERS
from tests.support.plain_http import NO_CERTIFICATES

AUTHORIZATION = {"authorization": f"Bearer {DEFAULT_TOKEN}"}
# Seconds to wait for what never comes.
PATIENCE = 0.3


@pytest.fixture
def url() -> Iterator[str]:
    with serve_simulator() as running:
        yield running.url


@pytest.fixture
def control(url: str) -> Iterator[Control]:
    with Control(url) as opened:
        yield opened


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/v2", headers=AUTHORIZATION, trust_env=False, verify=NO_CERTIFICATES) as opened:
        yield opened


@pytest.fixture
def cluster(control: Control) -> str:
    return str(control.create_cluster(name="orders", num_nodes=2)["id"])


def get(client: httpx.Client, cluster: str) -> httpx.Response:
    return client.get(f"/databases/{cluster}")


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("status", "slug"),
    [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (429, "too_many_requests"),
        (500, "server_error"),
        (503, "service_unavailable"),
    ],
)
def test_a_status_fault_answers_as_the_api_would(
    client: httpx.Client, control: Control, cluster: str, status: int, slug: str
) -> None:
    control.add_fault("status", status=status, headers={"Retry-After": "7"})

    response = get(client, cluster)

    assert (response.status_code, response.json()["id"]) == (status, slug)
    assert response.headers["retry-after"] == "7"
    assert "ratelimit-limit" in response.headers


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("body", "content_type"),
    [("plain words", "text/plain; charset=utf-8"), ({"any": ["json"]}, "application/json; charset=utf-8")],
)
def test_a_status_fault_answers_with_any_body(
    client: httpx.Client, control: Control, cluster: str, body: Any, content_type: str
) -> None:
    control.add_fault("status", status=418, body=body)

    response = get(client, cluster)

    assert response.status_code == 418
    assert response.headers["content-type"] == content_type
    assert (response.text if isinstance(body, str) else response.json()) == body


@pytest.mark.sockets
def test_the_cdns_504_is_html_without_rate_limit_headers(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("gateway_timeout")

    response = get(client, cluster)

    assert response.status_code == 504
    assert response.headers["content-type"].startswith("text/html")
    assert "<html>" in response.text
    assert "ratelimit-limit" not in response.headers


@pytest.mark.sockets
def test_the_plain_404_is_text(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("plain_404")

    assert (get(client, cluster).status_code, get(client, cluster).text) == (404, "404 page not found\n")


@pytest.mark.sockets
def test_a_truncated_reply_is_200_and_not_json(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("truncate")

    response = get(client, cluster)

    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()


@pytest.mark.sockets
def test_a_reply_without_its_object_is_200(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("no_database")

    assert (get(client, cluster).status_code, get(client, cluster).json()) == (200, {})
    assert set(client.get("/databases").json()) == {"links", "meta"}


@pytest.mark.sockets
def test_a_reply_can_be_another_clusters(client: httpx.Client, control: Control, cluster: str) -> None:
    other = control.create_cluster()
    control.add_fault("other_uuid", cluster=cluster, target=other["id"])

    assert get(client, cluster).json() == {"database": other}


@pytest.mark.sockets
def test_the_next_page_can_lie_on_another_host(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("foreign_next", target="http://elsewhere.test")

    listing = client.get("/databases").json()

    assert listing["links"]["pages"]["next"] == "http://elsewhere.test/v2/databases?page=2"
    assert [one["id"] for one in listing["databases"]] == [cluster]
    assert "links" not in get(client, cluster).json()


@pytest.mark.sockets
def test_a_true_reply_can_have_a_wrong_content_type(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("content_type")

    response = get(client, cluster)

    assert response.headers["content-type"] == "text/html"
    assert response.json()["database"]["id"] == cluster


@pytest.mark.sockets
def test_a_reply_can_redirect_to_another_host(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("redirect", target="http://elsewhere.test/", status=307)

    response = client.get("/databases?page=2")

    assert (response.status_code, response.headers["location"]) == (307, "http://elsewhere.test/v2/databases?page=2")


@pytest.mark.sockets
def test_the_budget_headers_can_say_anything_or_nothing(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("budget", headers={"ratelimit-remaining": "0", "ratelimit-reset": ""})

    response = get(client, cluster)

    assert response.json()["database"]["id"] == cluster
    assert response.headers["ratelimit-remaining"] == "0"
    assert "ratelimit-reset" not in response.headers
    assert response.headers["ratelimit-limit"] == "5000"


@pytest.mark.sockets
@pytest.mark.parametrize("kind", ["hang", "stall"])
def test_a_reply_that_does_not_come_or_does_not_end_leaves_the_client_waiting(
    client: httpx.Client, control: Control, cluster: str, kind: str
) -> None:
    control.add_fault(kind, count=1)

    with pytest.raises(httpx.ReadTimeout):
        client.get(f"/databases/{cluster}", timeout=PATIENCE)
    assert get(client, cluster).status_code == 200


@pytest.mark.sockets
def test_a_late_reply_is_late_before_its_headers(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("delay", delay=600)

    with (
        pytest.raises(httpx.ReadTimeout),
        client.stream("GET", f"/databases/{cluster}", timeout=PATIENCE),
    ):
        pass


@pytest.mark.sockets
def test_a_stalled_reply_stalls_after_its_headers(url: str, control: Control, cluster: str) -> None:
    control.add_fault("stall")
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    with closing(connection):
        connection.request("GET", f"/v2/databases/{cluster}", headers=AUTHORIZATION)
        response = connection.getresponse()
        assert response.status == 200
        assert response.read(50).startswith(b'{"database":')
        connection.sock.settimeout(PATIENCE)
        with pytest.raises(TimeoutError):
            response.read()


@pytest.mark.sockets
def test_a_short_stall_and_a_short_delay_end_in_the_true_reply(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("stall", delay=0.01, count=1)
    control.add_fault("delay", delay=0.01, count=1)

    assert get(client, cluster).json() == get(client, cluster).json() == {"database": control.get(cluster)}


@pytest.mark.sockets
def test_a_reset_connection_is_an_error_at_the_client(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("reset", count=1)

    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        get(client, cluster)
    assert get(client, cluster).status_code == 200


@pytest.mark.sockets
def test_the_server_ends_at_once_while_requests_hang() -> None:
    with serve_simulator() as running, Control(running.url) as control:
        control.add_fault("hang")
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{running.url}/v2/databases", timeout=PATIENCE, trust_env=False, verify=NO_CERTIFICATES)


@pytest.mark.sockets
def test_a_fault_acts_as_often_as_it_should_and_shows_in_the_log(client: httpx.Client, control: Control, cluster: str) -> None:
    control.add_fault("status", status=500, count=2, skip=1, path="/ca$")

    statuses = [client.get(f"/databases/{cluster}/ca").status_code for _ in range(4)]
    get(client, cluster)

    assert statuses == [200, 500, 500, 200]
    log = control.requests()
    assert [(one.kind, one.status, one.fault) for one in log.entries] == [
        ("ca", 200, None),
        ("ca", 500, "status"),
        ("ca", 500, "status"),
        ("ca", 200, None),
        ("cluster", 200, None),
    ]
    assert (log.total, log.kinds, log.statuses) == (5, {"ca": 4, "cluster": 1}, {200: 3, 500: 2})
    assert control.faults() == []


@pytest.mark.sockets
def test_faults_are_listed_and_cleared_one_by_one_and_all_at_once(client: httpx.Client, control: Control, cluster: str) -> None:
    first = control.add_fault("status", status=500)
    control.add_fault("status", status=503)
    assert get(client, cluster).status_code == 500
    assert [(one["kind"], one["acted"]) for one in control.faults()] == [("status", 1), ("status", 0)]

    control.clear_fault(first)
    assert get(client, cluster).status_code == 503
    control.clear_faults()
    assert get(client, cluster).status_code == 200


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        (Fault(kind=FaultKind.RESET), True),
        (Fault(kind=FaultKind.RESET, path="page=2"), True),
        (Fault(kind=FaultKind.RESET, path="page=3"), False),
        (Fault(kind=FaultKind.RESET, method="POST"), False),
        (Fault(kind=FaultKind.RESET, token="mine", cluster="abc"), True),
        (Fault(kind=FaultKind.RESET, token="another"), False),
        (Fault(kind=FaultKind.RESET, cluster="another"), False),
        (Fault(kind=FaultKind.RESET, probability=0), False),
    ],
)
def test_a_fault_meets_a_request_if_all_its_conditions_hold(rule: Fault, *, met: bool) -> None:
    book = FaultBook()
    book.add(rule)

    target = Target(method="GET", path_qs="/v2/databases/abc?page=2", token="mine", cluster="abc")

    assert (book.meet(target) is rule) is met


def test_a_probable_fault_picks_the_same_requests_for_the_same_seed() -> None:
    def picks(seed: int) -> list[bool]:
        book = FaultBook()
        book.add(Fault(kind=FaultKind.RESET, probability=0.3, seed=seed))
        target = Target(method="GET", path_qs="/", token=None, cluster=None)
        return [book.meet(target) is not None for _ in range(200)]

    assert picks(1) == picks(1) != picks(2)
    assert 30 < sum(picks(1)) < 90


@pytest.mark.sockets
def test_names_in_paths_may_be_percent_encoded(client: httpx.Client, control: Control, cluster: str) -> None:
    name = f"app/{HOSTILE_CHARACTERS}"
    control.add_user(cluster, name, password=HOSTILE_CHARACTERS)

    users = client.get(f"/databases/{cluster}/users").json()["users"]

    assert users[1]["name"] == name
    control.remove_user(cluster, name)
    assert len(client.get(f"/databases/{cluster}/users").json()["users"]) == 1


@pytest.mark.sockets
def test_links_name_the_host_that_the_client_used(url: str, control: Control) -> None:
    control.seed_clusters(3, engine="redis")
    by_name = url.replace("127.0.0.1", "localhost")

    first = httpx.get(
        f"{by_name}/v2/databases?per_page=2", headers=AUTHORIZATION, trust_env=False, verify=NO_CERTIFICATES
    ).json()
    following = first["links"]["pages"]["next"]
    second = httpx.get(following, headers=AUTHORIZATION, trust_env=False, verify=NO_CERTIFICATES).json()

    assert following.startswith(f"{by_name}/v2/databases?")
    assert [one["id"] for one in first["databases"] + second["databases"]] == control.cluster_ids()
    assert second["links"].get("pages", {}).get("next") is None


@pytest.mark.sockets
def test_the_rate_limits_clock_moves_when_it_is_told_to(client: httpx.Client, control: Control, cluster: str) -> None:
    control.set_clock(now=1_700_000_000, speed=0)
    control.set_token(DEFAULT_TOKEN, per_minute=2)
    assert [get(client, cluster).status_code for _ in range(3)] == [200, 200, 429]

    control.set_clock(advance=60)

    assert get(client, cluster).status_code == 200


@pytest.mark.sockets
def test_the_whole_control_client_does_what_it_says(client: httpx.Client, control: Control, cluster: str) -> None:
    ids = control.seed_clusters(2, engine="pg", num_nodes=2, tags=["fleet"], password_style={"marker": "m-"})
    control.rotate_passwords(ids)
    assert control.cluster_ids(tag="fleet") == ids
    assert control.rotate_password(ids[0])["connection"]["password"].startswith("m-")
    assert "standby_connection" not in control.fail_over(cluster)
    assert "standby_connection" in control.restore_standby(cluster)
    assert control.fail_over(cluster, swap_hosts=True)["connection"]["host"].startswith("replica-")
    assert control.update(cluster, status="resizing")["status"] == "resizing"
    assert control.ca(cluster).startswith("-----BEGIN CERTIFICATE-----")
    control.redact(cluster, style="null")
    assert get(client, cluster).json()["database"]["connection"]["password"] is None
    assert control.get(cluster)["connection"]["password"]
    control.redact(cluster, style=None)
    control.configure(paging="whole")
    assert len(client.get("/databases?per_page=1").json()["databases"]) == 3
    control.revoke_token(DEFAULT_TOKEN)
    assert get(client, cluster).status_code == 401
    control.clear_requests()
    assert control.requests().total == 0
    control.delete_cluster(cluster)
    with pytest.raises(ControlError, match="there is no"):
        control.get(cluster)


@pytest.mark.sockets
async def test_the_blocking_control_client_can_be_used_from_the_callers_event_loop() -> None:
    async with (
        start_simulator(seed=3, clusters=1) as running,
        httpx.AsyncClient(headers=AUTHORIZATION, trust_env=False, verify=NO_CERTIFICATES) as client,
    ):
        with Control(running.url) as control:
            (cluster,) = control.cluster_ids()
            response = await client.get(f"{running.url}/v2/databases/{cluster}")

    assert response.json()["database"]["id"] == cluster


@pytest.mark.sockets
def test_a_port_that_is_taken_is_said_at_once(url: str) -> None:
    port = int(url.rpartition(":")[2])

    with pytest.raises(OSError, match="address already in use"), serve_simulator(port=port):
        pass


@pytest.mark.sockets
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_says_where_it_listens_and_ends_when_told_to(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "sandbox.digitalocean", "--seed", "5", "--clusters", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = json.loads(program.stdout.readline())["url"]
        listing = httpx.get(f"{url}/v2/databases", headers=AUTHORIZATION, trust_env=False, verify=NO_CERTIFICATES).json()
        program.send_signal(number)
        assert program.wait(timeout=30) == 0

    assert listing["meta"]["total"] == 3
