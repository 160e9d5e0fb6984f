"""Mail through Gatepost with Python's smtplib: user, password, a wrong one or nothing, ports of mx, submission, submissions, lmtp. Eight messages."""
import smtplib
import ssl
import sys
from email.message import EmailMessage

user, password, wrong = sys.argv[1:4]
mx, submission, submissions, lmtp = map(int, sys.argv[4:8])
host = "127.0.0.1"
trusting = ssl._create_unverified_context()


def message(subject, to="bob@example.test", body="hello\n.dot\n"):
    m = EmailMessage()
    m["From"], m["To"], m["Subject"] = user, to, subject
    m.set_content(body)
    return m


with smtplib.SMTP(host, mx, local_hostname="python.example.org", timeout=30) as s:
    s.ehlo()
    for extension in ("pipelining", "8bitmime", "smtputf8", "chunking", "enhancedstatuscodes", "dsn", "size", "starttls"):
        assert s.has_extn(extension), (extension, s.esmtp_features)
    assert s.noop()[0] == 250 and s.rset()[0] == 250
    assert s.vrfy("bob@example.test")[0] in (250, 251, 252)
    s.send_message(message("plain"))  # 1
    refused = s.send_message(message("partly"), to_addrs=["bob@example.test", "x@elsewhere.example"])  # 2
    assert refused["x@elsewhere.example"][0] == 550, refused
    try:
        s.send_message(message("denied"), to_addrs=["x@elsewhere.example"])
        raise AssertionError("relayed")
    except smtplib.SMTPRecipientsRefused as e:
        assert e.recipients["x@elsewhere.example"][0] == 550, e.recipients
    s.send_message(message("Grüße", to="bøb@example.test"), to_addrs=["bøb@example.test"])  # 3
    s.send_message(message("large", body=".dotted line of text\n" * 400_000))  # 4

s = smtplib.SMTP(host, submission, local_hostname="python.example.org", timeout=30)
s.starttls(context=trusting)
s.ehlo()
assert not s.has_extn("starttls")
if wrong:
    try:
        # It tries every mechanism it knows, three of them, and that is as many failures as the server bears.
        s.login(user, wrong)
        raise AssertionError("logged in")
    except smtplib.SMTPAuthenticationError as e:
        assert e.smtp_code == 535, e
s.close()
with smtplib.SMTP(host, submission, local_hostname="python.example.org", timeout=30) as s:
    s.starttls(context=trusting)
    assert s.login(user, password)[0] == 235
    s.send_message(message("logged in", to="friend@elsewhere.example"))  # 5

for mechanism in ("PLAIN", "LOGIN"):  # 6, 7
    with smtplib.SMTP_SSL(host, submissions, local_hostname="python.example.org", context=trusting, timeout=30) as s:
        s.ehlo()
        s.user, s.password = user, password
        method = getattr(s, "auth_" + mechanism.lower())
        assert s.auth(mechanism, method)[0] == 235
        s.send_message(message(mechanism, to="friend@elsewhere.example"))

with smtplib.LMTP(host, lmtp, local_hostname="python.example.org", timeout=30) as s:  # 8
    s.send_message(message("by LMTP"))

print("all done")
