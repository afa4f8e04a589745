"""`python -m components.settings`: writes what is generated from the settings' declarations."""

from components.settings.schema import markdown, pulumi_yaml
from components.settings.stack_files import PROJECT_DIR

if __name__ == "__main__":
    (PROJECT_DIR / "docs" / "settings.md").write_text(markdown())
    schema = PROJECT_DIR / "Pulumi.yaml"
    schema.write_text(pulumi_yaml(schema.read_text()))
