"""The project's program on one machine, without a cloud account: real engine, real control plane, stand-in cloud."""
