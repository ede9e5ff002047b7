"""What the interface document's two Java programs sent, byte by byte.

Recorded by compiling both with javac 17, only the host replaced, against commons-httpclient 3.1 and
okhttp 3.13.1 (the fastjson class was a stub that reads the answer), and running them once through a forwarder
that noted the bytes. Afterwards the two phones of the sample were replaced by made-up ones as long.
"""

from __future__ import annotations

APP_ID = "2RYN7CQHL1M*****"
APP_KEY = "WVNA4A0*****"
PHONES = ("13800130001", "13800130002")
CONTENT = "【云通信】您的短信群发功能已开通,请在3个工作日之内至平台进行企业认证!"

# Note "ContentType" without its dash: the program's own mistake; the library adds a right one by itself.
SEND = (
    b"POST /smsApi/group HTTP/1.1\r\n"
    b"ContentType: application/x-www-form-urlencoded;charset=utf-8\r\n"
    b"User-Agent: Jakarta Commons-HttpClient/3.1\r\n"
    b"Host: 127.0.0.1:18658\r\n"
    b"Content-Length: 387\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
    b"\r\n"
    b"appId=2RYN7CQHL1M*****&appKey=WVNA4A0*****&phone=13800130001%2C13800130002&content="
    b"%E3%80%90%E4%BA%91%E9%80%9A%E4%BF%A1%E3%80%91%E6%82%A8%E7%9A%84%E7%9F%AD%E4%BF%A1%E7%BE%A4%E5%8F%91"
    b"%E5%8A%9F%E8%83%BD%E5%B7%B2%E5%BC%80%E9%80%9A%2C%E8%AF%B7%E5%9C%A83%E4%B8%AA%E5%B7%A5%E4%BD%9C%E6%97"
    b"%A5%E4%B9%8B%E5%86%85%E8%87%B3%E5%B9%B3%E5%8F%B0%E8%BF%9B%E8%A1%8C%E4%BC%81%E4%B8%9A%E8%AE%A4%E8%AF"
    b"%81%21"
)

# Everything in the query string, an empty body, and a Content-Type that is no form.
BALANCE = (
    b"POST /smsApi/group/getBalance?appId=2RYN7CQHL1M*****&appKey=WVNA4A0***** HTTP/1.1\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 0\r\n"
    b"Host: 127.0.0.1:18658\r\n"
    b"Connection: Keep-Alive\r\n"
    b"Accept-Encoding: gzip\r\n"
    b"User-Agent: okhttp/3.13.1\r\n"
    b"\r\n"
)
