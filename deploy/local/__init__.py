"""Runs a real Kafka and a real Triton on this machine, without containers.

Both run from Python packages and the jars of Kafka. The machine needs neither Docker nor Java.
"""

from mmbroker.deploy.local.errors import StackError
from mmbroker.deploy.local.stack import ComponentStatus, LocalStack, StackStatus
from mmbroker.deploy.local.state import Ports

__all__ = ["ComponentStatus", "LocalStack", "Ports", "StackError", "StackStatus"]
