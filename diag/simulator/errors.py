"""The words in which Bitbucket Data Center refuses."""

from __future__ import annotations

from diag.simulator.dialect import RefusedError, as_json

AUTH = "com.atlassian.bitbucket.auth."
NOT_PERMITTED = "com.atlassian.bitbucket.AuthorisationException"
REST_SECURITY = "com.atlassian.plugins.rest.api.security.exception."
NO_PROJECT = "com.atlassian.bitbucket.project.NoSuchProjectException"
NO_REPOSITORY = "com.atlassian.bitbucket.repository.NoSuchRepositoryException"
NO_USER = "com.atlassian.bitbucket.user.NoSuchUserException"


def refused(
    status: int,
    message: str,
    exception: str | None = None,
    *headers: tuple[str, str],
    context: str | None = None,
) -> RefusedError:
    """An error body as every REST resource writes it, ready to be raised."""
    entry = {"context": context, "message": message, "exceptionName": exception}
    return RefusedError(as_json(status, {"errors": [entry]}, *headers))


def bad_credential() -> RefusedError:
    message = "Authentication failed. Please check your credentials and try again."
    return refused(401, message, AUTH + "IncorrectPasswordAuthenticationException")


def captcha_required() -> RefusedError:
    message = (
        "CAPTCHA required. Your Bitbucket account has been marked as requiring a CAPTCHA to be"
        " solved before it can be used. Please log in through the web interface."
    )
    return refused(401, message, AUTH + "CaptchaRequiredAuthenticationException")


def inactive_user() -> RefusedError:
    message = "The account is no longer active. Please contact your administrator."
    return refused(401, message, AUTH + "InactiveUserAuthenticationException")


def no_licence() -> RefusedError:
    message = (
        "You are not currently licensed to use Bitbucket.\n"
        "Please contact your administrator to resolve this issue."
    )
    return refused(401, message, AUTH + "NoAccessAuthenticationException")


def basic_disabled() -> RefusedError:
    """The one refusal whose body has no list of errors."""
    message = "Basic Authentication has been disabled on this instance."
    return RefusedError(as_json(403, {"message": message}))


def not_permitted(*, login_would_help: bool) -> RefusedError:
    """Since 9.0, what is refused to nobody in particular has a name of its own."""
    message = "You are not permitted to access this resource"
    anonymous = REST_SECURITY + "AuthenticationRequiredException"
    return refused(401, message, anonymous if login_would_help else NOT_PERMITTED)


def rate_limited(retry_after: int) -> RefusedError:
    """`retry_after` is in seconds."""
    message = "You have been rate limited. Please try again later."
    return refused(429, message, None, ("Retry-After", str(retry_after)))


def invalid(parameter: str, message: str) -> RefusedError:
    return refused(400, message, context=parameter)
