"""The three ways in which a test ends without passing."""


class Skip(Exception):
    """The machine lacks what the test needs; the message says what."""


class Failure(Exception):
    """The claim under test does not hold."""


class LabError(Exception):
    """The lab itself broke (a guest that does not boot, a package that cannot be fetched): counted as a failure."""


def require(holds, why):
    """Fails the running test with `why` unless `holds`."""
    if not holds:
        raise Failure(why)
