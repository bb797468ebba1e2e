"""The workload `encode`: real video, encoded on this node and measured; each part runs outside of the agent."""
