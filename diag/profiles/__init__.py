"""The built-in requirement profiles: TOML files, in the format of docs/profiles.md."""
