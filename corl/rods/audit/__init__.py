"""The independent audit of made questions: it shares no code with the sampler and does not read its proofs."""

from corl.rods.audit.audit import AuditReport, audit_file, describe, write_report

__all__ = ["AuditReport", "audit_file", "describe", "write_report"]
