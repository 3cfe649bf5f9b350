"""wideneck under other people's libraries, at the versions of clients.toml: `make test-clients`."""
