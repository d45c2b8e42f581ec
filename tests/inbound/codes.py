"""What every code does to a message that lies in OUT, written down by hand from the specifications.

The product's own table is not asked, except for whether it has the same rows.
"""

from meshctl.mesh.states import State

# Event, status and code of a report, and the state that it brings a queued message to.
REPORTS = {
    ("COLLECT", "SUCCESS", "00"): State.COLLECTED,
    ("COLLECT", "ERROR", "01"): State.FAILED,
    ("COLLECT", "ERROR", "02"): State.FAILED,
    ("TRANSFER", "SUCCESS", "00"): State.SENT,
    ("TRANSFER", "SUCCESS", "05"): State.QUEUED,
    ("TRANSFER", "ERROR", "03"): State.FAILED,
    ("TRANSFER", "ERROR", "04"): State.FAILED,
    ("TRANSFER", "ERROR", "06"): State.FAILED,
    ("TRANSFER", "ERROR", "UNSURE"): State.FAILED,
    ("SEND", "ERROR", "02"): State.FAILED,
    ("SEND", "ERROR", "07"): State.FAILED,
    ("SEND", "ERROR", "08"): State.FAILED,
    ("SEND", "ERROR", "09"): State.FAILED,
    ("SEND", "ERROR", "11"): State.FAILED,
    ("SEND", "ERROR", "12"): State.FAILED,
    ("SEND", "ERROR", "13"): State.FAILED,
    ("SEND", "ERROR", "14"): State.FAILED,
    ("SEND", "ERROR", "15"): State.FAILED,
    ("SEND", "ERROR", "16"): State.FAILED,
    ("SEND", "ERROR", "17"): State.FAILED,
    ("SEND", "ERROR", "18"): State.FAILED,
    ("SEND", "ERROR", "19"): State.FAILED,
    ("SEND", "ERROR", "EPL-150"): State.FAILED,
    ("SEND", "ERROR", "EPL-151"): State.FAILED,
    ("SEND", "ERROR", "EPL-152"): State.FAILED,
    ("SEND", "ERROR", "EPL-153"): State.FAILED,
    ("SEND", "ERROR", "EPL-154"): State.FAILED,
}
CLIENT_REPORTS = (
    ("RECEIVE", "SUCCESS", "00"),
    ("RECEIVE", "ERROR", "15"),
    ("RECEIVE", "ERROR", "16"),
    ("RECEIVE", "ERROR", "17"),
)
POSITIVE_INFRASTRUCTURE = ("20013",)
NEGATIVE_INFRASTRUCTURE = (
    *("10001", "10002", "10003", "10004", "10005", "10006", "10007", "10008", "10009", "10010"),
    *("20001", "20002", "20003", "20004", "20005", "20006", "20007", "20008", "20009"),
    *("20010", "20011", "20012", "20014", "20015"),
)
POSITIVE_BUSINESS = (
    *("30001", "30004", "30005", "30006", "30008", "30009", "30010", "30011", "30013", "30016", "30019"),
)
NEGATIVE_BUSINESS = (
    *("30002", "30003", "30007", "30012", "30014", "30015", "30017", "30018"),
    *("30020", "30021", "30022", "30023", "30024", "30025"),
)
NEGATIVE = NEGATIVE_INFRASTRUCTURE + NEGATIVE_BUSINESS
