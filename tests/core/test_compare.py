"""`bbdiag compare`: what differs between places, and that harmless differences raise no alarm.

The reports come from real runs against the embedded Bitbucket; where two places would need more
than one machine has, only what the run noted about its place is changed afterwards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from diag import cli, comparing, explain, registry, usage
from diag.comparing.sight import moment
from diag.model import OWNERS, Status
from diag.record import replace
from diag.report import FindingResult, Report, timestamp
from diag.schema import schema
from diag.simulator import Simulator
from diag.simulator.data import CREDENTIALS
from tests.conftest import Diagnose
from tests.lab import CLIENT4, SERVER4, Lab

See = Callable[..., Report]
PUBLIC, OTHER_PUBLIC = "203.0.113.7", "198.51.100.9"
INSIDE, OTHER_INSIDE = "10.1.2.3", "10.1.2.4"
TCP = ("input", "proxy", "dns", "tcp")


@pytest.fixture
def bitbucket(diagnose: Diagnose) -> Callable[..., Any]:
    """One Bitbucket to look at from several places: `with bitbucket(fault) as see: see("ci")`."""

    @contextmanager
    def running(fault: str | None = None, **knobs: Any) -> Iterator[See]:
        with Simulator(fault, **knobs) as sim:
            scenario = sim.scenario

            def see(place: str, **options: Any) -> Report:
                usual: dict[str, Any] = {
                    "token": scenario.token,
                    "repo": scenario.repo,
                    "connect_to": scenario.connect_to,
                    "ca_file": scenario.ca_file,
                    "label": place,
                    **scenario.options,
                }
                return diagnose(scenario.url, **(usual | options))

            yield see

    return running


def compared(*reports: Report) -> Report:
    named = [(f"{number}.json", report) for number, report in enumerate(reports)]
    report = comparing.compare(comparing.gather(named))
    jsonschema.Draft202012Validator(schema()).validate(report.to_json())
    return report


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.problems]


def found(report: Report, code: str) -> FindingResult | None:
    findings = (finding for check in report.checks for finding in check.findings)
    return next((finding for finding in findings if finding.code == code), None)


def later(report: Report, hours: float) -> Report:
    run = replace(report.run, started_at=timestamp(moment(report) + timedelta(hours=hours)))
    return replace(report, run=run)


def noting(report: Report, check_id: str, code: str, **evidence: Any) -> Report:
    """The report with other evidence of one finding, whatever code that had."""
    checks = [
        replace(check, findings=(FindingResult(code, check.status, "changed", evidence),))
        if check.id == check_id
        else check
        for check in report.checks
    ]
    return replace(report, checks=tuple(checks))


def without_name(report: Report) -> Report:
    """A report of a failure, as it would be where the name does not exist."""
    problem = replace(report.problems[0], code="dns-nxdomain", check="dns")
    return noting(replace(report, problems=(problem,)), "dns", "dns-nxdomain")


def resolved(report: Report, *addresses: str) -> Report:
    code = next(f.code for c in report.checks if c.id == "dns" for f in c.findings)
    code = "dns-ok" if code == "dns-connect-to" else code
    return noting(report, "dns", code, addresses=addresses, from_hosts=False)


def certified(report: Report, issuer: str, sha256: str, *, public: bool) -> Report:
    """The report with another certificate, as the findings of check `tls` tell of it."""
    leaf = {
        "subject": "CN=bitbucket.example.com",
        "issuer": f"CN={issuer}",
        "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2027-01-01T00:00:00Z",
        "sha256": sha256 * 32,
    }
    code = next(f.code for c in report.checks if c.id == "tls" for f in c.findings)
    return noting(report, "tls", code, chain=[leaf], publicly_trusted=public)


# nothing differs


def test_all_is_well_everywhere(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        report = compared(see("laptop"), see("ci"), see("dmz"))
    assert codes(report) == []
    assert report.exit_status(strict=True) == 0
    assert report.run.label == "laptop, ci, dmz"
    assert [check.id for check in report.checks] == [aspect.id for aspect in comparing.ASPECTS]
    assert {check.status for check in report.checks} == {Status.OK}
    assert found(report, "compare-certificates-same")
    assert found(report, "compare-all-well")


def test_the_same_failure_everywhere_is_no_places_fault(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tls-expired") as see:
        report = compared(see("laptop"), see("ci"))
    assert codes(report) == ["tls-expired"]
    assert report.problems[0].owner == "server-admin"
    assert report.problems[0].message.startswith("from every place (laptop, ci): the server's cert")
    told = found(report, "compare-same-everywhere")
    assert told is not None
    assert told.message == "tls-expired: all 2 places find the same, so none of them is to blame"
    assert report.exit_status() == 1


def test_a_comparison_is_a_report_like_any_other(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tls-expired") as see:
        report = compared(see("laptop"), see("ci"))
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


# what is not looked at the same way


def test_a_firewall_that_knows_only_one_of_two(lab: Lab, diagnose: Diagnose) -> None:
    with_rules: dict[str, Any] = {"connect_to": (f"bitbucket.example.com:443:{SERVER4}:443",)}
    lab.simulator("server")
    lab.rules("router", "forward", f"ip saddr {CLIENT4} tcp dport 443 drop")
    seen = {
        place: lab.call(
            place, diagnose, "https://bitbucket.example.com", label=place, only=TCP, **with_rules
        )
        for place in ("client", "router")
    }
    assert codes(seen["client"]) == ["tcp-filtered"]
    report = compared(seen["client"], seen["router"])
    assert codes(report) == ["tcp-source-not-allowlisted"]
    problem = report.problems[0]
    assert (problem.owner, problem.status) == ("network-admin", Status.FAIL)
    assert problem.evidence["source"] == CLIENT4
    assert problem.evidence["working_source"] == "10.77.2.1"

    # A day apart it may as well have been the server: nobody is accused.
    apart = compared(later(seen["client"], 20), seen["router"])
    assert codes(apart) == ["tcp-filtered", "compare-runs-apart"]
    assert apart.problems[0].message.startswith("only from client, not from router: ")
    assert apart.problems[1].evidence["hours"] == 20


def test_a_refusal_at_another_address_proves_no_firewall(bitbucket: Callable[..., Any]) -> None:
    """Each simulator has a port of its own: what one refuses, the other did not try."""
    with bitbucket("tcp-refused") as see:
        bad = see("ci")
    with bitbucket() as see:
        good = see("laptop")
    assert codes(compared(bad, good)) == ["tcp-refused"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "192.0.2.1"])
def test_what_every_machine_calls_itself_is_another_one_in_each_place(
    bitbucket: Callable[..., Any], address: str
) -> None:
    with bitbucket("tcp-refused") as see:
        bad = noting(see("ci"), "tcp", "tcp-refused", answers=[knocked(address, "refused")])
    with bitbucket() as see:
        good = noting(see("laptop"), "tcp", "tcp-ok", answers=[knocked(address, "open")])
    same = "tcp-source-not-allowlisted" if address == "192.0.2.1" else "tcp-refused"
    assert codes(compared(bad, good)) == [same]


def knocked(address: str, result: str) -> dict[str, Any]:
    return {"address": address, "port": 7990, "result": result, "source": address}


@pytest.mark.parametrize(
    ("ours", "theirs", "code", "owner"),
    [
        (INSIDE, PUBLIC, "dns-split-horizon", "dns-admin"),
        (PUBLIC, INSIDE, "compare-other-address", "network-admin"),
        (OTHER_PUBLIC, PUBLIC, "compare-other-address", "dns-admin"),
        (OTHER_INSIDE, INSIDE, "compare-other-address", "dns-admin"),
    ],
    ids=["inside answer", "outside answer", "stale", "stale inside"],
)
def test_where_the_name_leads_elsewhere(
    bitbucket: Callable[..., Any], ours: str, theirs: str, code: str, owner: str
) -> None:
    with bitbucket("tcp-refused") as see:
        bad = resolved(see("ci"), ours)
    with bitbucket() as see:
        good = resolved(see("laptop"), theirs)
    report = compared(good, bad)
    assert codes(report) == [code]
    assert report.problems[0].owner == owner
    assert ours in report.problems[0].message
    assert theirs in report.problems[0].message


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ((INSIDE,), (PUBLIC,)),
        ((PUBLIC, OTHER_PUBLIC), (OTHER_PUBLIC, PUBLIC)),
        ((PUBLIC, INSIDE), (OTHER_PUBLIC, INSIDE)),
        ((PUBLIC,), (OTHER_PUBLIC,)),
    ],
    ids=["split and both work", "another order", "some in common", "of a large site"],
)
def test_addresses_may_differ_where_all_works(
    bitbucket: Callable[..., Any], ours: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    with bitbucket() as see:
        report = compared(resolved(see("ci"), *ours), resolved(see("laptop"), *theirs))
    assert codes(report) == []
    assert report.exit_status(strict=True) == 0


def test_that_the_inside_address_is_private_is_no_trouble_where_there_is_an_outside_one(
    bitbucket: Callable[..., Any],
) -> None:
    with bitbucket("tls-expiring-soon") as see:
        seen = see("ci")
    private = replace(seen.problems[0], code="dns-private-address", check="vantage")
    inside = resolved(replace(seen, problems=(private,)), INSIDE)
    with bitbucket() as see:
        other = see("laptop")
    assert codes(compared(inside, resolved(other, OTHER_INSIDE))) == ["dns-private-address"]
    report = compared(inside, resolved(other, PUBLIC))
    assert codes(report) == []
    differ = found(report, "compare-addresses-differ")
    assert differ is not None
    assert differ.status is Status.OK


def test_a_hosts_line_does_not_prove_that_dns_is_split(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tcp-refused") as see:
        bad = without_name(see("ci"))
    with bitbucket() as see:
        good = see("laptop")
    by_hosts = noting(good, "dns", "dns-ok", addresses=[INSIDE], from_hosts=True)
    assert codes(compared(bad, by_hosts)) == ["dns-nxdomain"]
    by_dns = noting(good, "dns", "dns-ok", addresses=[INSIDE], from_hosts=False)
    assert codes(compared(bad, by_dns)) == ["dns-split-horizon"]


def test_a_proxy_that_only_one_place_uses(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tcp-refused") as see:
        bad = without_name(see("ci"))
    with bitbucket() as see:
        good = see("laptop")
    proxy = "http://proxy.example.com:3128"
    good = noting(good, "proxy", "proxy-ok", proxy=proxy)
    good = noting(good, "dns", "dns-by-proxy")
    report = compared(good, bad)
    assert codes(report) == ["compare-proxy-not-used"]
    assert proxy in report.problems[0].remedy
    # Whoever else gets there without it shows that it is not needed.
    with bitbucket() as see:
        direct = resolved(see("dmz"), INSIDE)
    assert codes(compared(good, bad, direct)) == ["dns-split-horizon"]


@pytest.mark.parametrize(
    ("proxy", "owner"), [(None, "network-admin"), ("http://proxy:3128", "proxy-admin")]
)
def test_what_is_done_to_one_place_only_is_not_done_by_the_server(
    bitbucket: Callable[..., Any], proxy: str | None, owner: str
) -> None:
    with bitbucket("tcp-reset-after-accept") as see:
        bad = see("ci")
    if proxy:
        bad = noting(bad, "proxy", "proxy-ok", proxy=proxy)
    with bitbucket() as see:
        good = see("laptop")
    assert bad.problems[0].owner == "server-admin"
    report = compared(bad, good)
    assert codes(report) == ["compare-cut-on-the-way"]
    assert report.problems[0].owner == owner


def test_a_run_that_did_not_end_is_told(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        cut, whole = see("ci"), see("laptop", stage="steady")
    cut = replace(cut, run=replace(cut.run, interrupted=True))
    report = compared(cut, whole)
    assert codes(report)[0] == "compare-run-incomplete"
    assert report.exit_status() == 4
    asked = found(report, "compare-asked-differently")
    assert asked is not None
    assert "stage: setup (ci), steady (laptop)" in asked.message


# certificates


def test_somebody_opens_the_connection_in_one_place(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tls-issuer-unknown") as see:
        bad = certified(see("ci"), "Company Proxy CA", "aa", public=False)
        alike = certified(see("ci"), "Public CA", "cc", public=False)
    with bitbucket() as see:
        good = certified(see("laptop"), "Public CA", "bb", public=True)
    report = compared(good, bad)
    assert codes(report) == ["tls-interception"]
    assert "that ci gets is by Company Proxy CA, that of laptop by Public CA" in report.summary
    # Not where it leads to another machine, comes from the same CA, or was seen at another time.
    elsewhere = compared(resolved(good, PUBLIC), resolved(bad, OTHER_PUBLIC))
    assert "tls-interception" not in codes(elsewhere)
    assert codes(compared(good, alike)) == ["tls-issuer-unknown"]
    assert codes(compared(good, later(bad, 5)))[0] == "tls-issuer-unknown"


def test_an_inspection_that_is_trusted_is_seen_from_elsewhere(
    bitbucket: Callable[..., Any],
) -> None:
    with bitbucket() as see:
        inspected = certified(see("ci"), "Company Proxy CA", "aa", public=False)
        plain = certified(see("laptop"), "Public CA", "bb", public=True)
    report = compared(inspected, plain)
    assert codes(report) == ["compare-inspected"]
    assert (report.exit_status(), report.exit_status(strict=True)) == (0, 1)
    assert codes(compared(later(inspected, 30), plain)) == []  # the CA may have been changed


def test_a_certificate_that_was_renewed_in_between_is_no_alarm(
    bitbucket: Callable[..., Any],
) -> None:
    with bitbucket() as see:
        old = certified(see("ci"), "Public CA", "aa", public=True)
        new = later(certified(see("laptop"), "Public CA", "bb", public=True), 70)
    report = compared(old, new)
    assert codes(report) == []
    assert found(report, "compare-certificates-differ")


def test_one_of_several_machines_has_the_old_certificate(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tls-expired") as see:
        bad = see("ci")
    with bitbucket() as see:
        good = see("laptop")
    report = compared(bad, good)
    assert codes(report) == ["compare-certificate-half-renewed"]
    assert report.problems[0].owner == "server-admin"
    apart = compared(bad, later(good, 0.75))
    assert codes(apart) == ["tls-expired", "compare-runs-apart"]
    assert re.search(r"they are 4[4-6] minutes apart", apart.problems[1].message)
    # Also where each has an address of its own: that is not what is wrong.
    apart = compared(resolved(bad, PUBLIC), resolved(good, OTHER_PUBLIC))
    assert codes(apart) == ["compare-certificate-half-renewed"]


# who answers, and to whom


def test_two_bitbuckets_under_one_name(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        good = see("laptop")
        token = CREDENTIALS["revoked-token"].secret
    with bitbucket(version="10.9.1") as see:  # a line that the table of lifecycles does not end
        other, bad = see("dmz"), see("ci", token=token)
    report = compared(good, other)
    assert codes(report) == ["compare-other-instance"]
    assert report.problems[0].status is Status.WARN
    assert "laptop 10.2.7, dmz 10.9.1" in report.problems[0].message
    worse = compared(good, bad)
    assert codes(worse) == ["compare-other-instance"]
    assert worse.problems[0].status is Status.FAIL
    assert codes(compared(good, later(other, 50))) == []  # an upgrade


def test_nodes_of_a_cluster_may_differ_in_the_last_number(bitbucket: Callable[..., Any]) -> None:
    with bitbucket(version="10.9.1") as see:
        one = see("laptop")
    with bitbucket(version="10.9.3") as see:
        report = compared(one, see("ci"))
    assert codes(report) == []
    assert found(report, "compare-instance-upgraded")


def test_another_number_of_the_same_repository_is_another_bitbucket(
    bitbucket: Callable[..., Any],
) -> None:
    with bitbucket() as see:
        one, other = see("laptop"), see("ci")
    other = noting(other, "repos", "repos-ok", repository_id=4711)
    report = compared(one, other)
    assert codes(report) == ["compare-other-instance"]
    assert "number of repository MOB/app" in report.summary


def test_without_a_secret_in_one_place(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        report = compared(see("ci", token=None), see("laptop"))
    assert codes(report)[0] == "compare-anonymous"
    assert report.problems[0].message == "the run from ci had no secret, that from laptop had one"
    assert (report.exit_status(), report.exit_status(strict=True)) == (0, 1)


def test_a_secret_that_is_not_the_other_one(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        bad, good = see("ci", token=CREDENTIALS["revoked-token"].secret), see("laptop")
    assert codes(compared(bad, good)) == ["compare-other-secret"]


def test_another_user_without_the_right(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        bad, good = see("ci", token=CREDENTIALS["developer-token"].secret), see("laptop")
    report = compared(bad, good)
    assert codes(report) == ["compare-other-user"]
    assert "signed in as user developer, ci lacks" in report.problems[0].message


def test_the_same_user_with_a_smaller_token(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        good, bad = see("laptop"), see("ci", token=CREDENTIALS["read-token"].secret)
    mistaken = replace(bad, problems=(replace(bad.problems[0], code="perm-admin-missing"),))
    assert codes(bad) == ["perm-token-scope-limited"]
    report = compared(good, mistaken)
    assert codes(report) == ["perm-token-scope-limited"]
    assert report.problems[0].check == "rights"


def test_a_place_that_was_asked_for_something_else_is_no_witness(
    bitbucket: Callable[..., Any],
) -> None:
    with bitbucket() as see:
        report = compared(see("laptop"), see("ci", repo="MOB/forgotten"))
    assert report.problems[0].code == "perm-repo-not-visible"
    assert report.problems[0].message.startswith("from ci: ")


# clocks


def test_a_third_clock_tells_which_of_two_is_wrong(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("clock-skew-server") as see:
        off = see("ci"), see("dmz")
    with bitbucket() as see:
        right = see("laptop")
    assert codes(off[0]) == ["clock-skew-server"]
    report = compared(off[0], right)
    assert len(codes(report)) == 1
    assert codes(report)[0] in {"clock-skew-ahead", "clock-skew-behind"}
    assert re.match("the clock of ci is [0-9]+ (hours|minutes|days) ", report.problems[0].message)
    assert report.exit_status() == 0
    assert codes(compared(*off)) == ["clock-skew-server"]


def test_a_wrong_clock_does_not_put_runs_apart(bitbucket: Callable[..., Any]) -> None:
    """Where another clock agrees with the server's, it is known how wrong it is."""
    with bitbucket() as see:
        bad, good = see("ci", token=CREDENTIALS["revoked-token"].secret), see("laptop")
    late = noting(later(bad, 30), "clock", "clock-skew-server", skew_seconds=30 * 3600)
    assert codes(compared(good, late)) == ["compare-other-secret", "clock-skew-ahead"]
    assert codes(compared(good, later(bad, 30))) == ["auth-token-invalid", "compare-runs-apart"]


# one place, several times


def test_since_when_a_place_fails_and_what_changed(bitbucket: Callable[..., Any]) -> None:
    with bitbucket() as see:
        before = see("ci")
    with bitbucket("tls-expired") as see:
        middle, after = later(see("ci"), 10), later(see("ci"), 20)
    report = compared(after, before, middle)
    assert codes(report) == ["tls-expired"]
    message = report.problems[0].message
    assert message.startswith("from ci: the server's certificate expired")
    assert f"in ci since {moment(middle):%Y-%m-%d %H:%M:%S}" in message
    assert "changed in between: certificate: " in message
    story = found(report, "compare-history")
    assert story is not None
    assert "all is well" in story.message


def test_what_is_mended_is_no_problem_any_more(bitbucket: Callable[..., Any]) -> None:
    with bitbucket("tls-expired") as see:
        before = see("ci")
    with bitbucket() as see:
        report = compared(before, later(see("ci"), 10))
    assert codes(report) == []


# calls that are wrong


@pytest.fixture
def saved(bitbucket: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    with bitbucket() as see:
        usual = see("laptop").to_json()

    def save(name: str, **changes: Any) -> str:
        document: dict[str, Any] = json.loads(json.dumps(usual))
        for key, value in changes.items():
            if isinstance(value, Mapping):
                document[key] |= value
            else:
                document[key] = value
        path = tmp_path / name
        path.write_text(json.dumps(document), encoding="utf-8")
        return str(path)

    return save


def test_calls_that_cannot_be_compared(
    saved: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = saved("one.json")
    other = saved("other.json", run={"id": "2"}, target={"host": "other.example.com"})
    future = saved("future.json", schema_version=2)
    undated = saved("undated.json", run={"id": "3", "started_at": "yesterday"})
    ancient = saved("ancient.json", run={"id": "3", "started_at": "0001-01-01T00:00:00+14:00"})
    uncalled = tmp_path / "uncalled.json"
    uncalled.write_text(usage.document("Missing argument 'URL'."), encoding="utf-8")
    broken = tmp_path / "broken.json"
    broken.write_bytes(b"\xff{")
    listed = tmp_path / "listed.json"
    listed.write_text("[1]", encoding="utf-8")
    wrong = {
        (): "give at least two",
        (one,): "give at least two",
        (one, one): "are the same run",
        ("-", "-"): "standard input (-) can be read only once",
        (one, other): f"different targets: bitbucket.example.com port 443 in {one}, other.example",
        (one, future): "schema_version is 2",
        (one, undated): "run.started_at is 'yesterday'",
        (one, ancient): "run.started_at is '0001-01-01",
        (one, str(uncalled)): "is of a call that came to no run: The call is wrong in itself",
        (one, str(broken)): "broken.json cannot be used: it is no JSON document",
        (one, str(listed)): "not a bbdiag report: it is no object",
        (one, str(tmp_path / "none.json")): "cannot read",
    }
    for files, says in wrong.items():
        assert cli.run(["compare", *files, "--format", "json"]) == 2
        printed = capfd.readouterr()
        assert says in printed.err
        assert json.loads(printed.out)["root_cause"] == "input-config-invalid"


def test_a_clock_too_far_off_to_be_put_right(saved: Callable[..., str]) -> None:
    text = Path(saved("a.json")).read_text(encoding="utf-8")
    document = json.loads(text)
    for check in document["checks"]:
        if check["id"] == "clock":
            check["findings"][0]["evidence"]["skew_seconds"] = 10**30
    document["run"] |= {"id": "2", "label": "b"}
    named = [("a", Report.from_json(json.loads(text))), ("b", Report.from_json(document))]
    with pytest.raises(ValueError, match="a clock was too far off"):
        comparing.gather(named)


def test_a_place_is_told_in_one_line(saved: Callable[..., str]) -> None:
    files = [saved("a.json"), saved("b.json", run={"id": "2", "label": "c\n✓ i\n"})]
    named = [(file, Report.from_json(json.loads(Path(file).read_bytes()))) for file in files]
    assert [sight.place for sight in comparing.gather(named)] == ["laptop", "c ✓ i"]


def test_every_format_and_a_file_beside_it(
    saved: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [saved("a.json"), saved("b.json", run={"id": "2", "label": "c\x1b[31mi"})]
    copy = tmp_path / "copy.json"
    assert cli.run(["compare", *files, "--output", f"json={copy}"]) == 0
    text = capfd.readouterr().out
    assert "✓ Everything that was asked for works." in text
    assert "10 checks from laptop, c\ufffd[31mi" in text
    assert "  you" not in text
    assert json.loads(copy.read_text(encoding="utf-8"))["verdict"] == "ok"
    assert cli.run(["compare", files[0], "--timings", files[1]]) == 0
    assert "took ms" not in capfd.readouterr().out  # nothing was sent
    assert cli.run(["compare", files[0], str(copy)]) == 2
    assert "copy.json is a comparison itself" in capfd.readouterr().err


def test_a_place_without_a_label_is_its_host_and_then_its_file(
    saved: Callable[..., str],
) -> None:
    hosts: list[dict[str, Any]] = [{"hostname": "ci-7"}, {"hostname": ""}]
    named = []
    for number, run in enumerate(hosts):
        file = saved(f"{number}.json", run={"id": f"{number}", "label": None, **run})
        named.append((file, Report.from_json(json.loads(Path(file).read_text(encoding="utf-8")))))
    assert [sight.place for sight in comparing.gather(named)] == ["ci-7", named[1][0]]


@pytest.mark.parametrize("junk", [None, 7, "text", [], [1, "x"], {"answers": 3}, {"chain": [{}]}])
def test_evidence_of_another_kind_is_not_known(saved: Callable[..., str], junk: Any) -> None:
    """Reports are files that somebody may have edited."""
    text = Path(saved("a.json")).read_text(encoding="utf-8")
    report = Report.from_json(json.loads(text))
    checks = [
        replace(check, findings=tuple(replace(one, evidence=junk) for one in check.findings))
        for check in report.checks
    ]
    strange = replace(report, checks=tuple(checks), run=replace(report.run, id="2", label="b"))
    assert codes(compared(report, strange)) == []


# what can be looked up


def test_every_verdict_of_a_comparison_can_be_acted_on() -> None:
    known = registry.checks()
    ids = [one.id for one in explain.everything(known)]
    shared = {verdict.code for check in known.checks for verdict in check.verdicts()}
    assert len(ids) == len(set(ids))
    for aspect in comparing.ASPECTS:
        assert len(aspect.documentation()) > 60
        assert not aspect.title.endswith(".")
        for verdict in aspect.verdicts():
            assert verdict.owner in OWNERS
            if verdict.status in explain.SHOWN:
                assert len(verdict.remedy) > 10
                assert verdict.reproduce
            assert verdict.code.startswith("compare-") != (verdict.code in shared)


def test_a_verdict_of_a_comparison_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "compare-other-instance"]) == 0
    assert "found by    compare: instances" in capfd.readouterr().out
    assert cli.run(["explain", "tcp-source-not-allowlisted"]) == 0
    assert "also by     compare: reach" in capfd.readouterr().out
    assert cli.run(["explain", "certificates"]) == 0
    assert "compare-inspected" in capfd.readouterr().out
    assert "## compare: certificates" in explain.markdown(registry.checks())
