"""A kubelet's stand-in for all nodes of one cluster: heartbeats, and the containers of their pods as processes of this machine.

Like a kubelet's: image references resolved, commands and environments put together, probes, preStop hooks, grace periods,
restarts with back-off, statuses, events, logs.

Not simulated, since there is no root, no container runtime and no namespace of mounts, processes or users: volumes
(nothing is mounted; a path below a mount is this machine's), an image's base layers (a container finds this machine's
programs after those that its image's own instructions placed), security contexts, resource limits, host ports and
host networks, `kubectl exec`, `attach` and `cp`, ephemeral containers, static pods, in-place resize.
A pod with init containers, a deadline, readiness gates, postStart hooks or variables from elsewhere than Secrets and its
own fields is refused with a message (`environment.check_known`), since no pod of a stack has them.
"""

from sandbox.node_agent.agent import NodeAgent

__all__ = ["NodeAgent"]
