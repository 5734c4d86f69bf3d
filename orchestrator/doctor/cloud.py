"""The doctor's look at Modal: client, token, server, account, what is deployed, the data on its volume, the budget.

It starts no container and deploys nothing, so that it costs nothing. Of the token it tells where it is, never what it
is.
"""

import os
import sys
import typing
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from orchestrator import errors
from orchestrator.checkout import ROOT
from orchestrator.cloud.access import Access, read_access
from orchestrator.cloud.image import image_python, pinned_packages, read_packages
from orchestrator.cloud.options import APP, AppOptions
from orchestrator.cloud.probe import BadServer, Unreachable, check_servers
from orchestrator.cluster.address import tighten
from orchestrator.doctor.finding import OK, WARNING, WRONG, Finding
from orchestrator.errors import CommandError
from orchestrator.lock import requirements
from orchestrator.settings import DEFAULT, Settings

if typing.TYPE_CHECKING:
    from orchestrator.backends.modal_client import Cloud

SETUP = "make setup"  # installs what the lock says
GUIDE = "docs/modal.md"


def modal_findings(settings: Settings) -> Iterator[Finding]:
    """Each step needs the one before it: where one is wrong, those after it are not asked."""
    yield (installed := client())
    yield budget(settings)
    packages = image(settings)
    yield packages
    if installed.state == WRONG:
        return
    try:
        access = read_access(os.environ, Path.home())
    except CommandError as error:
        what = "server" if isinstance(error, BadServer) else "token"
        yield Finding(what, WRONG, str(error), "", error.exit_code)
        return
    yield token(access)
    yield (server := servers(access))
    if access.has_token and server.state != WRONG:
        yield from account(settings, access, packages.state != WRONG)


def client() -> Finding:
    """The version in the lock is the one whose words to its server the tests know."""
    asked = next(one for one in requirements(ROOT) if one.name == "modal")
    try:
        version = metadata.version("modal")
    except metadata.PackageNotFoundError:
        return Finding("modal", WRONG, f"the package is not installed; {asked.describe()}", SETUP, errors.BACKEND)
    found = f"client {version}"
    if asked.too_old(version):
        return Finding("modal", WRONG, f"{found}; {asked.describe()}", SETUP, errors.BACKEND)
    if not asked.as_locked(version):
        return Finding("modal", WARNING, f"{found}; {asked.describe()}", f"{SETUP}: the locked one, which was tried")
    return Finding("modal", OK, f"{found}, as the lock says")


def budget(settings: Settings) -> Finding:
    if settings["budget"] is None:
        mend = "budget = USD in golf.toml: what the runs folder may ever cost; or --budget each time"
        return Finding("budget", WARNING, "none is set: a submit that costs money is refused", mend)
    return Finding(
        "budget", OK, f"{settings['budget']:,.2f} USD of {settings['runs_dir']} ({settings.source('budget')})"
    )


def image(settings: Settings) -> Finding:
    """What would be built: nothing is asked for it."""
    source = settings.source("modal_packages")
    try:
        extra = read_packages(settings["modal_packages"], source, ROOT)
    except CommandError as error:
        return Finding("image", WRONG, str(error), f"{GUIDE} says what may stand there", error.exit_code)
    python = image_python(sys.version_info[:2])
    more = f", {', '.join(extra)} ({source})" if extra else ""
    return Finding("image", OK, f"Python {python}, {len(pinned_packages(ROOT))} packages as the lock says{more}")


def token(access: Access) -> Finding:
    """Where it is; a file with one is made its owner's alone."""
    if access.token_source is None:
        return Finding("token", WRONG, access.trouble, access.mend, errors.USAGE)
    found = f"{access.token_source} (not shown)"
    if str(access.config_path) not in access.token_source:
        return Finding("token", OK, found)
    try:
        loose = tighten(access.config_path)
    except OSError as error:
        mend = f"chmod 600 {access.config_path} ({error.strerror} for us)"
        return Finding("token", WARNING, f"{found}: others could read it", mend)
    if loose:
        mend = "made 0600 just now; whoever may have read it meanwhile knows it"
        return Finding("token", WARNING, f"{found}: others could read it", mend)
    return Finding("token", OK, found)


def servers(access: Access) -> Finding:
    try:
        check_servers(access.servers)
    except Unreachable as error:
        return Finding("server", WRONG, error.found, error.mend, error.exit_code)
    through = {one.proxy.shown for one in access.servers if one.proxy is not None}
    return Finding(
        "server", OK, f"{access.server_url} answers" + (f", through {', '.join(through)}" if through else "")
    )


def account(settings: Settings, access: Access, image_known: bool) -> Iterator[Finding]:
    """What only the server can tell, with the token."""
    from orchestrator.backends.modal_client import TRAIN  # the client is a second to import
    from orchestrator.cloud.site import asking, open_cloud

    try:
        cloud = open_cloud(settings)
        with asking():
            cloud.has(APP, TRAIN)  # any question will do: the token goes with it
    except CommandError as error:
        yield Finding("account", WRONG, str(error), "", error.exit_code)
        return
    environment = settings["modal_environment"] or access.environment
    told = f"environment {environment}" if environment else "its default environment"
    yield Finding("account", OK, f"the token is taken; {told}")
    if image_known:
        yield app(cloud, settings)
    yield data(cloud, settings)


def app(cloud: "Cloud", settings: Settings) -> Finding:
    """The one of a record: what other GPUs need is deployed beside it by the submit that asks for them."""
    from orchestrator.backends.modal_client import TRAIN
    from orchestrator.backends.modal_deploy import is_deployed
    from orchestrator.cloud.site import asking

    extra = read_packages(settings["modal_packages"], settings.source("modal_packages"), ROOT)
    options = AppOptions(packages=extra, secret=settings["modal_secret"])
    try:
        with asking():
            if is_deployed(cloud, options):
                return Finding("app", OK, f"{options.name} is deployed, of this code")
            there = cloud.has(options.name, TRAIN)
    except CommandError as error:
        return Finding("app", WRONG, str(error), "", error.exit_code)
    state = "is of other code" if there else "is not deployed"
    return Finding("app", OK, f"{options.name} {state}: submit deploys it first")


def data(cloud: "Cloud", settings: Settings) -> Finding:
    """What its check wrote down, against the list of its files. The embedded corpus is encoded in the container."""
    from orchestrator.cloud.site import asking
    from orchestrator.cloud.volume_data import DataOnVolume, DataVolume

    if settings["data"] is None:
        return Finding("data", OK, "the embedded corpus; --data NAME looks at a folder of the data volume")
    place = "--data" if settings.source("data") in (DEFAULT, "--data") else settings.source("data")
    try:
        with asking():
            found = DataOnVolume(DataVolume(cloud), settings["data"], settings["tokenizer"], None).result()
    except CommandError as error:
        return Finding("data", WRONG, str(error), f"{GUIDE} tells how data comes there", error.exit_code)
    return Finding("data", OK, f"{found.path} ({place}): {found.describe()}, as it was checked there")
