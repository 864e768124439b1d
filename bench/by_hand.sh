#!/bin/sh
# What bbdiag asks a healthy instance, asked with what everybody has, one after the other.
#
#     BITBUCKET_TOKEN=... by_hand.sh HOST PROJECT SLUG
#
# Ends with 1 at the first question that is not answered as it should be.
set -eu

host=$1 project=$2 slug=$3
url=https://$host key=$(echo "$project" | tr A-Z a-z)

ask() { curl -sS --fail --max-time 10 "$@"; }
ask_as_me() { ask -H "Authorization: Bearer $BITBUCKET_TOKEN" "$@"; }

# Does every DNS server know the name?
for server in $(awk '$1 == "nameserver" { print $2 }' /etc/resolv.conf); do
	dig +short "@$server" "$host" A | grep -q .
	dig +short "@$server" "$host" AAAA >/dev/null
done

# Are the ports open, and is it git that listens for SSH?
nc -z -w 3 "$host" 443
nc -d -w 3 "$host" 7999 | grep -q '^SSH-2.0-'

# Is the certificate trusted, made out for the name, and good for two more weeks?
openssl s_client -connect "$host:443" -servername "$host" \
	-verify_return_error -verify_hostname "$host" </dev/null 2>/dev/null |
	openssl x509 -noout -checkend 1209600 >/dev/null

# Is it Bitbucket, does it run, and in which version?
ask "$url/status" | grep -q RUNNING
ask "$url/rest/api/latest/application-properties" | grep -q '"version"'

# Who am I?
ask_as_me -D - -o /dev/null "$url/rest/api/latest/application-properties" | grep -qi '^x-auserid:'

# Which repositories can I see, and do their links point here?
ask_as_me "$url/rest/api/1.0/repos?start=0&limit=100" | grep -q "$url/scm/"
ask "$url/rest/capabilities" | grep -q "$url/rest"

# May I make webhooks, and is the product's webhook there?
ask_as_me "$url/rest/api/latest/repos?permission=REPO_ADMIN&limit=100" | grep -q "\"slug\":\"$slug\""
ask_as_me "$url/rest/api/latest/projects/$project/repos/$slug/webhooks?statistics=true" |
	grep -q appcircle
ask_as_me "$url/rest/api/latest/users?filter=ci-bot%40example.com&permission=ADMIN" >/dev/null

# Can it be cloned?
ask_as_me "$url/scm/$key/$slug.git/info/refs?service=git-upload-pack" | grep -aq refs/heads/
