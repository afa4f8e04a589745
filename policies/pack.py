"""The rules as a policy pack for Pulumi; the only module that uses Pulumi's policy SDK.

A `Violation` becomes a violation of the policy, at the level that the stack's configuration gives it. What is `Undecided`
becomes the SDK's own advisory notice about a policy that a preview cannot decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pulumi_policy as sdk
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError

from policies.rule import UNKNOWN, Finding, Options, Resource, ResourceRule, Rule, StackRule, Undecided, Violation

NAME = "tpu-gpu-fungibility"

_LEVELS = {"mandatory": sdk.EnforcementLevel.MANDATORY, "advisory": sdk.EnforcementLevel.ADVISORY}


class _Notice(UnknownValueError):  # type: ignore[misc]  # the SDK is in the pack's own environment alone
    """The SDK shows `message` as an advisory and goes on."""

    def __init__(self, undecided: Sequence[Undecided]) -> None:
        super().__init__(UNKNOWN_STRING_VALUE, [])
        self.message = "; ".join(map(str, undecided))


def plain(value: Any) -> Any:
    """Converts the SDK's mappings, which raise for unknown values, to plain ones with UNKNOWN, and whole floats to int."""
    if isinstance(value, Mapping):
        return {key: _item(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_item(value, index) for index in range(len(value))]
    # The protocol only has floats.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _item(container: Any, key: Any) -> Any:
    try:
        return plain(container[key])
    except UnknownValueError:
        return UNKNOWN


def resource_of(args: Any) -> Resource:
    """Converts the SDK's arguments of a resource policy, or a resource of a stack policy."""
    return Resource(urn=args.urn, type=args.resource_type, name=args.name, properties=plain(args.props), protect=bool(args.opts.protect))


class Pack:
    """The policies of some rules, and what they remember of a run."""

    def __init__(self, rules: Sequence[ResourceRule | StackRule]) -> None:
        self._rules = rules
        self._inputs: dict[str, Resource] = {}

    def policies(self) -> list[sdk.Policy]:
        return [self._resource_policy(rule) if isinstance(rule, ResourceRule) else self._stack_policy(rule) for rule in self._rules]

    def _resource_policy(self, rule: ResourceRule) -> sdk.Policy:
        def validate(args: Any, report: Any) -> None:
            resource = resource_of(args)
            self._inputs[resource.urn] = resource
            _report(rule.check(resource, _options(rule, args)), lambda each: report(str(each)))

        return sdk.ResourceValidationPolicy(validate=validate, **_common(rule))

    def _stack_policy(self, rule: StackRule) -> sdk.Policy:
        def validate(args: Any, report: Any) -> None:
            # The engine passes outputs, and in a preview there are none while the provider's own settings are unknown (the
            # cluster does not exist yet). The inputs came before, resource by resource.
            resources = [self._inputs.get(each.urn) or resource_of(each) for each in args.resources]
            _report(
                rule.check(resources, _options(rule, args)), lambda each: report(str(each), each.resource.urn if each.resource else None)
            )

        return sdk.StackValidationPolicy(validate=validate, **_common(rule))


def _report(findings: Iterable[Finding], report: Callable[[Violation], None]) -> None:
    found = list(findings)
    for each in found:
        if isinstance(each, Violation):
            report(each)
    if undecided := [each for each in found if isinstance(each, Undecided)]:
        raise _Notice(undecided)


def _options(rule: Rule, args: Any) -> Options:
    return {**rule.defaults(), **plain(args.get_config())}


def _common(rule: Rule) -> dict[str, Any]:
    return {"name": rule.name, "description": rule.description, "enforcement_level": _LEVELS[rule.level], "config_schema": _schema(rule)}


def _schema(rule: Rule) -> sdk.PolicyConfigSchema | None:
    if not rule.options:
        return None
    return sdk.PolicyConfigSchema(
        properties={
            name: {
                "type": option.type,
                "default": option.default,
                "description": option.description,
                **({"items": {"type": "string"}} if option.type == "array" else {"exclusiveMinimum": 0}),
            }
            for name, option in rule.options.items()
        }
    )


def serve(rules: Sequence[ResourceRule | StackRule]) -> None:
    """Answers the engine until the engine ends the process."""
    sdk.PolicyPack(name=NAME, policies=Pack(rules).policies())
