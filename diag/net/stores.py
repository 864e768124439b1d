"""How each program and system is made to trust one more CA."""

from __future__ import annotations

# Program or system, and the command; ca.pem holds the CA's certificate, {origin} is the server's.
IMPORT = {
    "bbdiag": "bbdiag check {origin} --ca-file ca.pem",
    "git": "git config --global http.{origin}/.sslCAInfo $PWD/ca.pem",
    "Node.js": "export NODE_EXTRA_CA_CERTS=$PWD/ca.pem",
    "Java": "keytool -importcert -cacerts -alias company-ca -file ca.pem",
    "Debian": "cp ca.pem /usr/local/share/ca-certificates/ca.crt && update-ca-certificates",
    "Red Hat": "cp ca.pem /etc/pki/ca-trust/source/anchors/ && update-ca-trust",
    "macOS": "security add-trusted-cert -d -k /Library/Keychains/System.keychain ca.pem",
    "Windows": "certutil -addstore -f Root ca.pem",
}
# The same as lines of a remedy.
LINES = "\n".join(f"{program}: {command}" for program, command in IMPORT.items())
