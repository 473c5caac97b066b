//! XML as reference manifests are written, and its canonical form.
//!
//! Read is a subset in which every byte says one thing only: elements, attributes, namespaces and text of ASCII. There are no document
//! types, no references (`&`), comments, CDATA sections or processing instructions; one space stands before an attribute, quotes are
//! double, lines end with a line feed. So nothing has to be escaped in the canonical form (Canonical XML 1.1), which is left with
//! ordering attributes, naming each namespace once and closing every element by a tag.

use std::collections::BTreeMap;

/// The most bytes of a document; NVIDIA's have about 20,000.
pub const MAX_DOCUMENT: usize = 256 << 10;
const MAX_DEPTH: usize = 16;
const MAX_ELEMENTS: usize = 2048;
/// The most attributes and declarations of an element.
const MAX_ATTRIBUTES: usize = 64;

/// The declarations that may stand before the document; nothing signs them.
const DECLARATIONS: [&str; 4] = [
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
    "<?xml version='1.0' encoding='UTF-8'?>",
    "<?xml version='1.0' encoding='utf-8'?>",
];

/// Namespaces by their prefix; the default one has none.
pub type Namespaces<'a> = BTreeMap<&'a str, &'a str>;

/// An element; it borrows the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// As it is written, with its prefix.
    name: &'a str,
    namespace: &'a str,
    local: &'a str,
    declared: Namespaces<'a>,
    /// By namespace and local name, the order of the canonical form.
    attributes: BTreeMap<(&'a str, &'a str), Attribute<'a>>,
    children: Vec<Node<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attribute<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node<'a> {
    Element(Element<'a>),
    Text(&'a str),
}

/// Why bytes are no such document. Positions are bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Longer than any.
    #[error("{got} bytes are more than the {MAX_DOCUMENT} of a document")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// A byte that is neither printable ASCII nor a tab or line feed.
    #[error("byte {at} is no character of such a document")]
    Character {
        /// Where.
        at: usize,
    },
    /// Something else than must stand there.
    #[error("at byte {at}, {expected} must stand")]
    Syntax {
        /// Where.
        at: usize,
        /// What must.
        expected: &'static str,
    },
    /// A prefix that stands for no namespace.
    #[error("before byte {at}, a prefix is not declared")]
    Undeclared {
        /// Where the tag ends.
        at: usize,
    },
    /// An attribute or a declaration that stands twice.
    #[error("before byte {at}, an attribute stands twice")]
    Duplicate {
        /// Where the tag ends.
        at: usize,
    },
    /// More than a document has.
    #[error("too many {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
}

impl<'a> Element<'a> {
    /// Reads a document, to its last byte.
    pub fn parse(document: &'a [u8]) -> Result<Self, XmlError> {
        if document.len() > MAX_DOCUMENT {
            return Err(XmlError::TooLong { got: document.len() });
        }
        let stranger = |byte: &u8| !matches!(byte, b' '..=b'~' | b'\n' | b'\t');
        let at = document.iter().position(stranger);
        let text = match (at, std::str::from_utf8(document)) {
            (None, Ok(text)) => text,
            (at, _) => return Err(XmlError::Character { at: at.unwrap_or(0) }),
        };
        let body = DECLARATIONS.iter().find_map(|declaration| text.strip_prefix(declaration));
        let rest = body.map_or(text, |body| body.trim_start_matches('\n'));
        let mut reader = Reader { length: text.len(), rest, elements: 0 };
        reader.expect("<", "an element")?;
        let root = reader.element(&Namespaces::new(), MAX_DEPTH)?;
        match reader.rest.trim_start_matches('\n') {
            "" => Ok(root),
            _ => Err(reader.error("nothing but line feeds")),
        }
    }

    /// Whether it has this name.
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.namespace == namespace && self.local == local
    }

    /// The value of an attribute.
    pub fn attribute(&self, namespace: &str, local: &str) -> Option<&'a str> {
        self.attributes.get(&(namespace, local)).map(|attribute| attribute.value)
    }

    /// How many attributes it has; declarations of namespaces are none.
    pub fn attribute_count(&self) -> usize {
        self.attributes.len()
    }

    /// The elements in it.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Whether there is nothing in it but elements.
    pub fn is_bare(&self) -> bool {
        self.children.iter().all(|node| matches!(node, Node::Element(_)))
    }

    /// Its text, if that is all there is in it.
    pub fn text(&self) -> Option<&'a str> {
        match self.children.as_slice() {
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// How many elements of this name are in it, at any depth, itself counted.
    pub fn count(&self, namespace: &str, local: &str) -> usize {
        let below = self.elements().map(|element| element.count(namespace, local));
        below.fold(usize::from(self.is(namespace, local)), usize::saturating_add)
    }

    /// `outer` and the namespaces that it declares.
    pub fn scope(&self, outer: &Namespaces<'a>) -> Namespaces<'a> {
        outer.iter().chain(&self.declared).map(|(prefix, uri)| (*prefix, *uri)).collect()
    }

    /// Its canonical form (Canonical XML 1.1, without comments) where `outer` is declared around it, without the element `omitted`.
    pub fn canonical(&self, outer: &Namespaces<'a>, omitted: Option<&Self>) -> String {
        let mut out = String::new();
        self.write(outer, &Namespaces::new(), omitted, &mut out);
        out
    }

    fn write(
        &self,
        outer: &Namespaces<'a>,
        rendered: &Namespaces<'a>,
        omitted: Option<&Self>,
        out: &mut String,
    ) {
        let scope = self.scope(outer);
        out.extend(["<", self.name]);
        for (prefix, uri) in scope.iter().filter(|(prefix, uri)| rendered.get(*prefix) != Some(*uri)) {
            let colon = if prefix.is_empty() { "" } else { ":" };
            out.extend([" xmlns", colon, prefix, "=\"", uri, "\""]);
        }
        for Attribute { name, value } in self.attributes.values() {
            out.extend([" ", name, "=\"", value, "\""]);
        }
        out.push('>');
        for node in &self.children {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Element(element) if omitted.is_some_and(|omitted| std::ptr::eq(omitted, element)) => {}
                Node::Element(element) => element.write(&scope, &scope, omitted, out),
            }
        }
        out.extend(["</", self.name, ">"]);
    }
}

struct Reader<'a> {
    /// Of the document.
    length: usize,
    rest: &'a str,
    elements: usize,
}

impl<'a> Reader<'a> {
    fn at(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    fn error(&self, expected: &'static str) -> XmlError {
        XmlError::Syntax { at: self.at(), expected }
    }

    /// Takes `token` if it is next.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), XmlError> {
        if self.take(token) { Ok(()) } else { Err(self.error(expected)) }
    }

    /// What stands before the first character that `ends` it.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A name, with a prefix or without.
    fn name(&mut self) -> Result<&'a str, XmlError> {
        let error = self.error("a name");
        let name = self.until(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')));
        let is_part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let (prefix, local) = name.split_once(':').unwrap_or((name, name));
        if is_part(prefix) && is_part(local) && !local.contains(':') { Ok(name) } else { Err(error) }
    }

    /// An element, behind its first `<`; `depth` more may stand in each other.
    fn element(&mut self, outer: &Namespaces<'a>, depth: usize) -> Result<Element<'a>, XmlError> {
        self.elements = self.elements.saturating_add(1);
        if self.elements > MAX_ELEMENTS {
            return Err(XmlError::TooMany { what: "elements" });
        }
        let name = self.name()?;
        let (mut declared, mut written) = (Namespaces::new(), Vec::new());
        while self.take(" ") {
            if declared.len().saturating_add(written.len()) == MAX_ATTRIBUTES {
                return Err(XmlError::TooMany { what: "attributes" });
            }
            let attribute = self.attribute()?;
            let prefix = match attribute.name {
                "xmlns" => Some(""),
                name => name.strip_prefix("xmlns:"),
            };
            let Some(prefix) = prefix else {
                written.push(attribute);
                continue;
            };
            if attribute.value.is_empty() || prefix.starts_with("xml") {
                return Err(self.error("the end of a declaration of some other namespace"));
            }
            if declared.insert(prefix, attribute.value).is_some() {
                return Err(XmlError::Duplicate { at: self.at() });
            }
        }
        let mut element = Element {
            name,
            namespace: "",
            local: "",
            declared,
            attributes: BTreeMap::new(),
            children: Vec::new(),
        };
        let scope = element.scope(outer);
        (element.namespace, element.local) = self.resolve(name, &scope, scope.get("").copied())?;
        for attribute in written {
            let key = self.resolve(attribute.name, &scope, None)?;
            if element.attributes.insert(key, attribute).is_some() {
                return Err(XmlError::Duplicate { at: self.at() });
            }
        }
        if self.take("/>") {
            return Ok(element);
        }
        self.expect(">", "an attribute or the end of a tag")?;
        while !self.take("</") {
            if self.take("<") {
                let depth =
                    depth.checked_sub(1).ok_or(XmlError::TooMany { what: "elements in each other" })?;
                element.children.push(Node::Element(self.element(&scope, depth)?));
            } else {
                element.children.push(Node::Text(self.text()?));
            }
        }
        if self.until(|c| c == '>') != name {
            return Err(self.error("the end of the tag that closes the element"));
        }
        self.expect(">", "the end of a tag")?;
        Ok(element)
    }

    /// Text up to the next tag.
    fn text(&mut self) -> Result<&'a str, XmlError> {
        match self.until(|c| matches!(c, '<' | '>' | '&')) {
            text if self.rest.starts_with('<') => Ok(text),
            _ => Err(self.error("a tag")),
        }
    }

    /// `name="value"`.
    fn attribute(&mut self) -> Result<Attribute<'a>, XmlError> {
        let name = self.name()?;
        self.expect("=\"", "`=\"`")?;
        let value = self.until(|c| matches!(c, '"' | '<' | '&' | '\n' | '\t'));
        self.expect("\"", "`\"`")?;
        Ok(Attribute { name, value })
    }

    /// Namespace and local name; a name without prefix is in `default`.
    fn resolve(
        &self,
        name: &'a str,
        scope: &Namespaces<'a>,
        default: Option<&'a str>,
    ) -> Result<(&'a str, &'a str), XmlError> {
        match name.split_once(':') {
            None => Ok((default.unwrap_or(""), name)),
            Some((prefix, local)) => match scope.get(prefix) {
                Some(namespace) => Ok((namespace, local)),
                None => Err(XmlError::Undeclared { at: self.at() }),
            },
        }
    }
}
