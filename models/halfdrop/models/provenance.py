"""What a picture file says about where it comes from: an XMP packet that PNG, JPEG and WebP can carry.

IPTC's "trained algorithmic media" says that a trained model made it; the spec with the model's digest says how.
"""

from xml.sax.saxutils import escape

from halfdrop.contracts.patterns import PatternSpec, canonical_bytes

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for a picture that a trained model made."""

_XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:halfdrop="urn:halfdrop:1.0#">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<halfdrop:PatternSpec>{spec}</halfdrop:PatternSpec>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def describe_provenance(spec: PatternSpec) -> bytes:
    """Return the packet. Letters beyond ASCII are references: readers of PNG do not agree on how one is encoded."""
    packet = _XMP.format(source=TRAINED_ALGORITHMIC_MEDIA, spec=escape(canonical_bytes(spec).decode()))
    return packet.encode("ascii", "xmlcharrefreplace")
