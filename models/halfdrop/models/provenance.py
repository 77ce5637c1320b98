"""What a file says about where it comes from: an XMP packet that PNG, JPEG, WebP, TIFF, PDF and SVG can carry.

IPTC's "trained algorithmic media" says that a trained model made it; the spec with the model's digest says how, and
the gates' report what was measured before it was let out.
"""

from xml.sax.saxutils import escape

from halfdrop.contracts.patterns import PatternSpec, canonical_bytes

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for a picture that a trained model made."""

_HEAD = '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="r"?>'

_META = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:halfdrop="urn:halfdrop:1.0#">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<halfdrop:PatternSpec>{spec}</halfdrop:PatternSpec>
{more}</rdf:Description></rdf:RDF></x:xmpmeta>"""


def describe_provenance(spec: PatternSpec, *, refiner_digest: str = "", gates: str = "") -> bytes:
    """Return the packet. Letters beyond ASCII are references: readers of PNG do not agree on how one is encoded.

    The model's digest stands in the spec. refiner_digest: of what drew the layers exactly, if anything did. gates: the
    report of the gates, JSON.
    """
    return (_HEAD + _describe(spec, refiner_digest, gates) + _TAIL).encode("ascii", "xmlcharrefreplace")


def describe_in_svg(spec: PatternSpec, *, refiner_digest: str = "", gates: str = "") -> str:
    """Return the same as SVG's <metadata> wants it: without the packet's wrapper, which XML takes for instructions."""
    return _describe(spec, refiner_digest, gates).encode("ascii", "xmlcharrefreplace").decode()


def _describe(spec: PatternSpec, refiner_digest: str, gates: str) -> str:
    said = {"RefinerDigest": refiner_digest, "GateReport": gates}
    more = "".join(f"<halfdrop:{name}>{escape(text)}</halfdrop:{name}>\n" for name, text in said.items() if text)
    return _META.format(source=TRAINED_ALGORITHMIC_MEDIA, spec=escape(canonical_bytes(spec).decode()), more=more)
