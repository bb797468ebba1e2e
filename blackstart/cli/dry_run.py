"""What a run would do, as a tree."""

from typing import Any

from blackstart.cli.output import console

Document = dict[str, Any]


def print_plan(plan: Document) -> None:
    """Each step with the agents that it would reach and the effects that it would have there."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(f"{plan.get('title', '')}: what would happen; nothing was touched"))
    for step in plan.get("steps") or []:
        branch = tree.add(Text.assemble((step["name"], "bold"), f"  {step['function']} {step['kind']}"))
        if step.get("problem"):
            branch.add(Text(step["problem"], "red"))
            continue
        drawn = " (drawn anew at each run)" if step.get("drawn") else ""
        branch.add(Text(f"on {', '.join(step['agents'])}{drawn}: {step['targets']}"))
        for effect in step.get("effects") or []:
            until = f", for at most {step['duration_s']:g} s" if isinstance(step.get("duration_s"), int | float) else ""
            branch.add(Text(f"{effect['agent_id']}: {effect['description']}{until}; undone by {effect['undo']}"))
    if lacks := (plan.get("approval") or {}).get("missing"):
        tree.add(Text(f"refused as it stands: {lacks}", "red"))
    console().print(tree, soft_wrap=True)
