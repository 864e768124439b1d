"""Verdicts that more than one check concludes, declared once.

A check names the ones it may conclude as class attributes, as it does with its own:
`RATE_LIMITED = verdicts.RATE_LIMITED`.
"""

from __future__ import annotations

from diag.model import fail, warn

CONFIG_INVALID = fail(  # concluded by the command line, before there is a run
    "input-config-invalid",
    "the call is wrong in itself: {problem}",
    remedy="Correct the call or the file it names; bbdiag --help describes every option.",
    owner="you",
    reproduce="bbdiag check --help",
)
SERVER_ERROR = fail(
    "server-error",
    "Bitbucket itself fails: it answers {status} to {request}: {said}",
    remedy=(
        "Look into Bitbucket's own log (log/atlassian-bitbucket.log below its home directory) for"
        " the request {request_id}; the network and the token are not the reason."
    ),
    owner="bitbucket-admin",
    reproduce="{curl_auth} -i '{request}'",
    explains=("version-unknown",),
)
RATE_LIMITED = fail(
    "rate-limited",
    "Bitbucket's rate limit is used up: it answers 429 to {request} (Retry-After: {retry_after} s)",
    remedy=(
        "Wait that long and run it again. If it comes back, find what else uses this account, or"
        " have it exempted: Administration > Rate limiting > Exemptions."
    ),
    owner="bitbucket-admin",
    reproduce="{curl_auth} -i '{request}' | grep -i -e '^HTTP' -e retry-after",
)
RATE_LIMIT_NEAR = warn(
    "rate-limit-near",
    "Bitbucket's rate limit is nearly used up: {state}",
    remedy=(
        "Slow down whatever else uses this account, or have it exempted: Administration > Rate"
        " limiting > Exemptions."
    ),
    owner="bitbucket-admin",
    reproduce="{curl_auth} -i '{request}' | grep -i -e ratelimit -e retry-after",
)
GATEWAY_RATE_LIMITED = fail(
    "http-gateway-rate-limited",
    "a gateway in front of Bitbucket stopped letting requests through: {status} to {request},"
    " not from Bitbucket, which had answered {before} requests of this run before",
    remedy=(
        "Raise or lift the gateway's request limit for this client (nginx: limit_req). If it has"
        " none, Bitbucket went away during this run: run it again."
    ),
    owner="server-admin",
    reproduce="for i in 1 2 3 4 5 6 7 8; do {curl} -i '{url}/status' | head -1; done",
)
BAD_GATEWAY = fail(
    "http-bad-gateway",
    "the reverse proxy works, but cannot reach Bitbucket (HTTP {status} from {server})",
    remedy="Start Bitbucket, or correct where the reverse proxy looks for it (address, port "
    "7990, http or https). On that machine: curl http://localhost:7990/status",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
GATEWAY_TIMEOUT = fail(
    "http-gateway-timeout",
    "the reverse proxy waits in vain for Bitbucket (HTTP {status} from {server})",
    remedy="Bitbucket hangs or is overloaded, or a firewall between it and the reverse proxy "
    "drops the packets. On the reverse proxy's machine, ask Bitbucket directly.",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
EMPTY_REPLY = fail(
    "http-empty-reply",
    "the request is taken and the connection then closed without an answer ({detail})",
    remedy="What answers there has crashed, or rejects the request without a word: look into "
    "the log of web server, load balancer or firewall for this moment.",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
BODY_TRUNCATED = fail(
    "http-body-truncated",
    "the answer is cut off before its end ({detail})",
    remedy="Something on the way cuts answers: look at the buffers, the disk space for them "
    "(nginx: proxy_temp_path) and the log of the reverse proxy.",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
RESPONSE_TIMEOUT = fail(
    "http-response-timeout",
    "the connection is there, but no answer comes within {timeout} s",
    remedy="Bitbucket or its reverse proxy hangs: look at its load, its database and its log. "
    "If it is known to be slow, try --timeout 30.",
    owner="server-admin",
    reproduce="{curl} -m 60 -w '%{{time_starttransfer}} s\\n' -o /dev/null '{request}'",
)
SLOW_BODY = fail(
    "http-slow-body",
    "the answer comes too slowly, or does not end ({detail})",
    remedy="Look at what lies between: bandwidth, a device that scans or holds back answers, "
    "the buffers of the reverse proxy.",
    owner="server-admin",
    reproduce="{curl} -m 60 -w '%{{size_download}} bytes in %{{time_total}} s\\n' "
    "-o /dev/null '{request}'",
)
PMTU_BLACK_HOLE = fail(
    "tcp-pmtu-blackhole",
    "large packets vanish on the way: {what} passes with packets of {segment} bytes and gets no "
    "answer with ordinary ones",
    remedy="Let ICMP 'fragmentation needed' and 'packet too big' through the firewalls on the way, "
    "or clamp the MSS at the tunnel or VPN (iptables: TCPMSS --clamp-mss-to-pmtu).",
    owner="network-admin",
    reproduce=("tracepath -n {host}", "ping -M do -s 1472 {host}"),
)
INVALID_JSON = fail(
    "http-invalid-json",
    "{request} is answered {status}, but not with the JSON that belongs there: {said}",
    remedy=(
        "Look at that answer: something between here and Bitbucket writes it itself, or changes"
        " what Bitbucket wrote (a proxy, a firewall, an error page with status 200)."
    ),
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
RESET_AFTER_ACCEPT = fail(
    "tcp-reset-after-accept",
    "the connection to port {port} is accepted and then reset, whatever is sent",
    remedy=(
        "Look at what listens there: a load balancer without a living backend, a service that"
        " refuses this client's address, or one that crashes."
    ),
    owner="server-admin",
    reproduce="{curl} -v {url}/status",
)
CLOSED_AFTER_ACCEPT = fail(
    "tcp-closed-after-accept",
    "the connection to port {port} is accepted and then closed without a word, whatever is sent",
    remedy=(
        "Look at what listens there: mostly a load balancer or port forwarding whose backend is"
        " down, or one that refuses this client's address."
    ),
    owner="server-admin",
    reproduce="{curl} -v {url}/status",
)
SILENT_AFTER_ACCEPT = fail(
    "tcp-silent-after-accept",
    "the connection to port {port} is accepted, but nothing is ever answered (waited {timeout} s)",
    remedy=(
        "The service hangs or is overloaded: look at its threads and its accept queue (ss -lnt) and"
        " restart it. A port forwarding may also accept for a machine that is gone."
    ),
    owner="server-admin",
    reproduce="{curl} -v -m 10 {url}/status",
)
WRONG_SERVICE_SSH = fail(
    "tcp-wrong-service-ssh",
    "SSH answers on port {port}, not a web server ({banner})",
    remedy="Use the port of the web interface; 7999 is Bitbucket's port for git over SSH.",
    owner="you",
    reproduce="nc -w 2 {host} {port} </dev/null",
)
CLIENT_CERTIFICATE_REQUIRED = fail(
    "tls-client-cert-required",
    "the server lets nobody in without a client certificate",
    remedy=(
        "Ask for a way in without one for {profile}, as bbdiag and most products that connect"
        " cannot present any: another port or name, or an exception for their addresses."
    ),
    owner="you",
    reproduce=(
        "openssl s_client -connect {connect} -servername {host} </dev/null"
        " | grep -A9 'client certificate CA names'"
    ),
)
BLOCK_PAGE = fail(
    "http-block-page",
    "a web page of somebody else answers, HTTP {status} where JSON belongs: {product} ({sign})",
    remedy="Open {url} in a browser on this machine to see the page. A web filter needs an "
    "exception for {host}, a portal a login; if the page belongs to the server, the URL or its "
    "reverse proxy is wrong.",
    owner="network-admin",
    reproduce="{curl} -i '{request}'",
)
WAF_BLOCKED = fail(
    "http-waf-blocked",
    "the request is rejected before it gets to Bitbucket, by {product} (HTTP {status}, {sign})",
    remedy="Have the rules of the firewall or gateway in front of Bitbucket let REST requests "
    "pass (/rest, /scm, /status), for this client's address if they go by address. Give them "
    "the time of this run, and the number if the page shows one.",
    owner="network-admin",
    reproduce="{curl} -i '{request}'",
    explains=("version-unknown",),
)
SSO_LOGIN = fail(
    "http-sso-login",
    "somebody who wants people to sign in answers in place of Bitbucket: {product} ({sign})",
    remedy="Programs cannot sign in there. Exempt /rest, /scm and /status from the single "
    "sign-on in front of Bitbucket: it checks tokens itself.",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
GATEWAY_AUTH = fail(
    "http-gateway-auth",
    "the reverse proxy wants a login of its own, before Bitbucket is asked ({login})",
    remedy="Exempt /rest, /scm and /status from the login of the reverse proxy, or let it pass "
    "for the addresses of {profile}: a request has room for one login only, and that is the "
    "token for Bitbucket.",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
HEADER_TOO_LARGE = fail(
    "http-header-too-large",
    "the headers are too large: {what}",
    remedy="Find who adds them, mostly cookies that a gateway sets again and again; or raise "
    "the limits (nginx: large_client_header_buffers, proxy_buffer_size).",
    owner="server-admin",
    reproduce="{curl} -i -o /dev/null -D - '{request}' | wc -c",
)
UPSTREAM_UNAVAILABLE = fail(
    "http-upstream-unavailable",
    "the gateway before Bitbucket has nobody to pass requests on to, or does not want to (HTTP "
    "503 from {server}, without any mark of Bitbucket)",
    remedy="Look at the gateway's view of its backends: health checks, maintenance page, empty "
    "pool, connection limits. Then see whether Bitbucket runs at all.",
    owner="server-admin",
    reproduce="{curl} -i '{request}'",
)
REPO_NOT_VISIBLE = fail(
    "perm-repo-not-visible",
    "{who} cannot see {wanted}: {reason}",
    remedy="Check the name ({near}). If it is right, give the owner of the secret at least read"
    " access: Repository settings > Permissions.",
    owner="project-admin",
    reproduce="{curl_auth} -i '{request}'",
)
ADMIN_MISSING = fail(
    "perm-admin-missing",
    "{who} may not {doing} {where}, but {profile} needs that now ({stage})",
    remedy="Give the owner of the secret that right: Repository settings > Permissions (or the"
    " project's). For a token of a project or repository: make one with that right.",
    owner="project-admin",
    reproduce="{curl_auth} -i '{request}' | head -1",
)
TOO_BROAD = warn(
    "perm-too-broad",
    "{who} may {too_much}, but {profile} only has to {doing} {where} now ({stage})",
    remedy="Replace the token by one with less: whoever gets hold of it can do all of that.",
    owner="you",
    reproduce="{curl_auth} '{request}'",
)
TOKEN_INVALID = fail(
    "auth-token-invalid",
    "Bitbucket refuses {secret}: {reason} ({said})",
    remedy="Make a new HTTP access token (your picture > Manage account > HTTP access tokens,"
    " or the settings of the project or repository) and put it where the old one was.",
    owner="you",
    reproduce="{curl_auth} -i '{url}/rest/api/latest/application-properties'",
)
GIT_SSH_UNREACHABLE = warn(
    "git-ssh-unreachable",
    "git over SSH does not work from here: {ssh_host}, port {ssh_port}: {reason}",
    remedy="Have port {ssh_port} opened to where clones are made, or clone over HTTP. If it is"
    " meant to be closed, switch SSH off in Bitbucket, so that nobody is shown the links.",
    owner="network-admin",
    reproduce="nc -vz {ssh_host} {ssh_port}",
)
AAAA_BROKEN = warn(
    "dns-aaaa-broken",
    "the IPv6 address of {host} does not work from here: {dead}",
    remedy="Remove the AAAA record, or make the service reachable over IPv6. Clients that try "
    "IPv6 first are slow or fail, those with IPv4 alone notice nothing.",
    owner="dns-admin",
    reproduce=("dig +short {host} AAAA", "nc -vz -w 3 {address} {port}"),
)
CLOUD_API_REMOVED = fail(
    "cloud-api-removed",
    "Bitbucket Cloud no longer has what was asked for: {request} is answered {status} ({said})",
    remedy="The token is all right: the program is too old for today's API. Update bbdiag; if"
    " {profile} reports the same, update or reconnect it there.",
    owner="you",
    reproduce="{curl_auth} -i '{request}'",
)
