"""Makes `twistd proxyd` known; imports nothing of ours until it is used."""

from twisted.application.service import ServiceMaker

proxyd = ServiceMaker("proxyd", "proxyd.tap", "A proxy for data-science platforms.", "proxyd")
