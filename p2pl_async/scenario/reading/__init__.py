"""From TOML to a scenario: files that extend others, presets, overrides, and every problem at once."""
