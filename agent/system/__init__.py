"""Every syscall, netlink call and subprocess of the agent. Invariant: nothing above this package touches the kernel."""
