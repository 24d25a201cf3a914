"""Values and pure decisions; numpy only, no files, sockets, event loop or model runtime."""
