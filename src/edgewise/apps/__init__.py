"""The reference applications, and what runs them: processes, the demo, the report."""
