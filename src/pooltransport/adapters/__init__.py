"""Our pool under other libraries' clients: one module for each library, loaded by who imports it."""
