"""What a stage process serves, as the tests see it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from mmbroker.streams.running.health import DIRECTORY
from mmbroker.streams.settings import Settings
from tests.conftest import wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """The values of a scrape by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def by_label(scrape: Samples, name: str, label: str) -> dict[str, int]:
    """The values of one metric by one of its labels."""
    values = Counter[str]()
    for (each, labels), value in scrape.items():
        if each == name:
            values[dict(labels)[label]] += int(value)
    return dict(values)


@dataclass(frozen=True)
class Endpoint:
    """Where one process serves."""

    settings: Settings
    stage: str
    instance: str = ""
    """By default the first that the supervisor starts."""

    @property
    def address(self) -> str:
        instance = self.instance or f"{self.settings.kafka.topic_prefix}-{self.stage}-0"
        path = self.settings.data_directory / DIRECTORY / f"{instance}.json"
        (target,) = json.loads(path.read_text())[0]["targets"]
        return str(target)

    def get(self, path: str) -> tuple[int, str]:
        """The status and body of an answer; 0 when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def says(self, path: str, status: int, text: str = "") -> bool:
        code, body = self.get(path)
        return code == status and text in body

    def wait(self, status: int, text: str = "") -> None:
        """Wait until it is ready, or unready with a reason that contains a text."""
        problem = f"{self.stage} does not come to say {status} {text}"
        wait_until(lambda: self.says("/readyz", status, text), problem)

    def scrape(self) -> Samples:
        return samples(self.get("/metrics")[1])

    def partitions(self) -> set[str]:
        """Those that it had when it last looked; none when nothing answers."""
        status, body = self.get("/metrics")
        text = body if status == 200 else ""
        return set(by_label(samples(text), "mmbroker_lag_events", "partition"))
