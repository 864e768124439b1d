"""The URL, the secret and the files that bbdiag is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from diag.simulator.data import CREDENTIALS
from tests.certificates import DAY
from tests.gallery.case import HOST, URL, Call, Family

if TYPE_CHECKING:
    from tests.gallery.town import Town

INPUT = Family("input", "What bbdiag is given")

SCHEME, PAGE, API = (
    "input-url-missing-scheme",
    "input-url-has-page-path",
    "input-url-has-api-path",
)
UNSEEN, BLANKS = "input-url-bad-character", "input-token-whitespace"
PLACEHOLDER, OTHER_PRODUCT = "input-token-placeholder", "input-token-wrong-product"
NOT_A_CA, USAGE = "input-ca-not-a-ca", "input-config-invalid"
TOKEN = "BITBUCKET_TOKEN"
PROFILE = 'format = 1\nname = "own"\ntitle = "Our CI"\n'
# Of the shape that other products give their tokens, and obviously made up.
GITHUB = "ghp_" + "0123456789abcdefghijklmnopqrstuvwxyz"
GITLAB = "glpat-" + "0123456789abcdefghij"
ATLASSIAN = "ATATT3x" + "FfGF0" + "0123456789abcdefghij" * 4


# the URL


@INPUT.fault(
    "I01",
    SCHEME,
    "no https:// before a port that speaks plain HTTP",
    told=[f"http://{HOST}:7990"],
)
def no_scheme(town: Town) -> Call:
    """What follows from taking it for https:// is no second fault."""
    town.dns()
    town.lab.expose("server", 7990, town.bitbucket(base_url=f"http://{HOST}:7990"))
    return Call(f"{HOST}:7990")


@INPUT.fault("I01-https", SCHEME, "no https://, where https is right", url=HOST, told=[URL])
@INPUT.fault(
    "I02", "input-url-not-http", "a clone URL of SSH", url=f"ssh://git@{HOST}:7999/a/b.git"
)
@INPUT.fault(
    "I02-scp",
    "input-url-not-http",
    "a clone URL of SSH in its short form",
    url=f"git@{HOST}:mob/app.git",
    told=[f"{URL}/scm/mob/app.git"],
)
@INPUT.fault(
    "I03",
    PAGE,
    "the page of a repository",
    url=f"{URL}/projects/MOB/repos/app/browse",
    told=[f"base URL {URL} and repository MOB/app"],
)
@INPUT.fault(
    "I03-pull-request",
    PAGE,
    "the page of a pull request",
    url=f"{URL}/projects/MOB/repos/app/pull-requests/7/overview?commentId=1#top",
    told=["MOB/app"],
)
@INPUT.fault("I04", API, "the URL of the API", url=f"{URL}/rest/api/1.0", told=[f"enter {URL}:"])
@INPUT.fault(
    "I04-repository",
    API,
    "the URL of a repository in the API",
    url=f"{URL}/rest/api/latest/projects/MOB/repos/app",
    told=["MOB/app"],
)
@INPUT.fault("I05", "input-port-invalid", "port 99999", url=f"{URL}:99999", told=["99999"])
@INPUT.fault("I05-word", "input-port-invalid", "a port that is no number", url=f"{URL}:https/")
@INPUT.fault("I06", UNSEEN, "a blank at the end of the URL", url=f"{URL} ", told=["at the end"])
@INPUT.fault("I06-nbsp", UNSEEN, "a no-break space", url=f"{URL}\u00a0", told=["NO-BREAK SPACE"])
@INPUT.fault(
    "I06-zero-width",
    UNSEEN,
    "a zero width space inside the name",
    url=URL.replace("bb", "bb\u200b"),
    told=["ZERO WIDTH SPACE"],
)
@INPUT.fault(
    "I07", "input-host-invalid", "a label of 64 characters", url=f"https://{'b' * 64}.lab.test"
)
@INPUT.fault("I07-dots", "input-host-invalid", "two dots in the name", url="https://bb..lab.test")
@INPUT.fault("I07-none", "input-host-invalid", "a port without a host", url="https://:7990/")
def a_url(town: Town, url: str) -> Call:
    town.healthy()
    return Call(url)


@INPUT.healthy("clone-url", "a clone URL below a context path", page="/scm/mob/app.git")
def below_a_context_path(town: Town, page: str) -> Call:
    town.dns()
    port = town.bitbucket(base_url=f"{URL}/git", context_path="/git")
    town.nginx(town.site(port, path="/git"))
    return Call(f"{URL}/git{page}", repo=None)


@INPUT.fault(
    "I08",
    "input-url-has-credentials",
    "name and password in the URL",
    url="https://jdoe:{}@" + HOST,
    credential="password",
)
@INPUT.fault(
    "I08-clone",
    "input-url-has-credentials",
    "a clone URL with the token in it",
    url="https://x-token-auth:{}@" + HOST + "/scm/mob/app.git",
    credential="repository-token",
)
def credentials_in_the_url(town: Town, url: str, credential: str) -> Call:
    """They are scrubbed, though nobody said that this is the secret."""
    town.healthy()
    secret = CREDENTIALS[credential].secret or ""
    town.secrets.append(secret)
    return Call(url.format(secret))


@INPUT.healthy("brackets", "a URL as mail programs write it", url=f"<{URL}/>")
@INPUT.healthy("dot", "a URL whose name ends with a dot", url=f"https://{HOST}./")
@INPUT.healthy("capitals", "a URL in capital letters", url=f"HTTPS://{HOST.upper()}:443/")
def odd_but_plain(town: Town, url: str) -> Call:
    town.healthy()
    return Call(url)


# the secret


@INPUT.fault("I09", "input-token-missing", "an empty variable", env={TOKEN: ""})
def no_secret(town: Town, env: dict[str, str], options: tuple[str, ...] = ()) -> Call:
    town.healthy()
    town.token = None
    return Call(env=env, options=options)


@INPUT.fault("I09-file", "input-token-missing", "an empty file", content="")
@INPUT.fault(
    "I10", BLANKS, "a file that ends with a line break", content="{}\n", told=["LINE FEED"]
)
def a_file(town: Town, content: str) -> Call:
    town.healthy()
    text = content.format(town.token)
    town.secrets.append(town.token or "")
    town.token = text or None  # what other programs get
    return Call(options=("--token-file", str(town.write("token", text))))


@INPUT.fault("I10-blank", BLANKS, "a blank before the token", secret=" {}", told=["at the start"])
@INPUT.fault("I10-bearer", BLANKS, "the word Bearer before the token", secret="Bearer {}")
@INPUT.fault("I10-quotes", BLANKS, "quotation marks around the token", secret='"{}"')
@INPUT.fault("I11", PLACEHOLDER, "a variable that no shell expanded", secret="${{BB_TOKEN}}")
@INPUT.fault("I11-manual", PLACEHOLDER, "what the manual has in its place", secret="<token>")
@INPUT.fault("I11-windows", PLACEHOLDER, "a Windows variable", secret="%BB_TOKEN%")
@INPUT.fault("I12", OTHER_PRODUCT, "a token of GitHub", secret=GITHUB, told=["GitHub"])
@INPUT.fault("I12-gitlab", OTHER_PRODUCT, "a token of GitLab", secret=GITLAB, told=["GitLab"])
@INPUT.fault(
    "I12-atlassian",
    OTHER_PRODUCT,
    "an API token of Bitbucket Cloud",
    secret=ATLASSIAN,
    told=["Cloud"],
)
def a_wrong_secret(town: Town, secret: str) -> None:
    town.healthy()
    town.secrets.append(town.token or "")
    town.token = secret.format(town.token)


@INPUT.fault(
    "I12+D04",
    OTHER_PRODUCT,
    "a Data Center token for Bitbucket Cloud, and a resolver that knows no outside names",
    seen=["dns-refused"],
    also=["cloud-api-host-blocked"],
    told=["Bitbucket Cloud"],
)
def a_token_for_the_other_bitbucket(town: Town) -> Call:
    town.dns()
    return Call("https://bitbucket.org/example-team/app", repo=None)


@INPUT.fault(
    "I10+H10",
    BLANKS,
    "a line break in the token, and a gateway without Bitbucket",
    seen=["http-bad-gateway"],
    secret="{}\n",
)
@INPUT.fault(
    "I11+H10",
    PLACEHOLDER,
    "a placeholder for the token, and a gateway without Bitbucket",
    seen=["http-bad-gateway"],
    secret="{{{{BB_TOKEN}}}}",
)
def a_wrong_secret_and_no_bitbucket(town: Town, secret: str) -> None:
    """What is wrong with the secret is no reason not to look at the way."""
    town.dns()
    town.nginx(town.site(1))
    town.secrets.append(town.token or "")
    town.token = secret.format(town.token)


@INPUT.fault(
    "I12+L01",
    OTHER_PRODUCT,
    "a token of GitHub, and an expired certificate",
    seen=["tls-expired"],
)
def a_wrong_secret_and_an_expired_certificate(town: Town) -> None:
    town.healthy(certificate=town.ca.issue(HOST, starts=-90 * DAY, ends=-DAY))
    town.token = GITHUB


@INPUT.fault(
    "L01+I03",
    "tls-expired",
    "an expired certificate, and the URL of a page",
    seen=[PAGE],
    url=f"{URL}/projects/MOB/repos/app/browse",
)
@INPUT.fault(
    "L01+I01", "tls-expired", "an expired certificate, and no https://", seen=[SCHEME], url=HOST
)
def an_expired_certificate_and_a_url(town: Town, url: str) -> Call:
    """A warning comes after the failure, though it is about what comes before."""
    town.healthy(certificate=town.ca.issue(HOST, starts=-90 * DAY, ends=-DAY))
    return Call(url)


# files


@INPUT.fault("I13", "input-ca-unreadable", "a CA file that does not exist", name="gone.pem")
@INPUT.fault("I13-directory", "input-ca-unreadable", "a directory as CA file", name=".")
def no_ca_file(town: Town, name: str) -> Call:
    town.healthy()
    return Call(ca_file=town.directory / name)


@INPUT.fault(
    "I14",
    NOT_A_CA,
    "the server's own certificate as CA file",
    what="leaf",
    told=["only certificates of servers"],
)
@INPUT.fault("I14-key", NOT_A_CA, "a private key as CA file", what="key", told=["a private key"])
@INPUT.fault("I14-der", NOT_A_CA, "a CA file in DER form", what="der", told=["DER form"])
def a_file_that_holds_no_ca(town: Town, what: str) -> Call:
    leaf = town.ca.issue(HOST)
    town.healthy(certificate=leaf)
    contents: dict[str, bytes | str] = {
        "leaf": leaf.pem,
        "key": leaf.key_pem,
        "der": town.ca.certificate.public_bytes(Encoding.DER),
        "html": "<!doctype html><title>Sign in</title>",
        "empty": "",
        "utf16": town.ca.pem.decode().encode("utf-16"),
    }
    return Call(ca_file=town.write("given.pem", contents[what]))


@INPUT.fault(
    "I15",
    USAGE,
    "a profile with a key that does not exist",
    text=f'{PROFILE}[datacenter]\nminimal_version = "8.0"\n',
    told=["datacenter.minimal_version", "'minimum_version'"],
)
@INPUT.fault(
    "I15-type",
    USAGE,
    "a profile with a value of the wrong type",
    text=f'{PROFILE}[network]\nfrom_internet = "yes"\n',
    told=["network.from_internet must be true or false"],
)
@INPUT.fault("I15-key", USAGE, "a profile without its name", text="format = 1\n", told=["name"])
@INPUT.fault("I15-missing", USAGE, "a profile that does not exist", told=["cannot be read"])
def a_profile(town: Town, text: str | None = None) -> Call:
    town.healthy()
    file = town.write("own.toml", text) if text else town.directory / "own.toml"
    return Call(options=("--for", str(file)))


@INPUT.fault("I15-seconds", USAGE, "a time-out in words", options=("--timeout", "3s"))
@INPUT.fault(
    "I15-sources",
    USAGE,
    "two places for one secret",
    options=("--netrc", "--token-env", "BB"),
    told=["--token-env and --netrc"],
)
@INPUT.fault("I15-variable", USAGE, "a variable with a wrong value", env={"BBDIAG_REPEAT": "0"})
def a_wrong_call(
    town: Town, options: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> Call:
    town.healthy()
    return Call(options=options, env=env or {})


INPUT.near_miss("a name that cannot be looked up", "I07", "I06-nbsp")
INPUT.near_miss("401", "I12", "I11-manual")
INPUT.near_miss("a name that cannot be looked up", "I07", "D01")
INPUT.near_miss("401", "I12-gitlab", "A01")
