//! E-mail addresses, in one spelling each.
//!
//! The `Mailbox` of RFC 5321 section 4.1.2 in its dot-string form, ASCII only: quoted local parts, address
//! literals and internationalised addresses are refused, because hardly any mail system delivers to them.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A valid address, lower-case. The local part is folded too: RFC 5321 lets its case matter, but no provider
/// does, and two accounts that differ by case only would be a trap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for EmailAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        // 254: what fits in a Path of 256 octets with its angle brackets (RFC 5321 section 4.5.3.1.3).
        let valid = text.len() <= 254
            && text.split_once('@').is_some_and(|(local, domain)| is_local(local) && is_domain(domain));
        if !valid {
            return Err(Error::invalid("email", "must be an e-mail address like name@example.com"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// `Dot-string`: atoms of RFC 5322 `atext` with single dots between.
fn is_local(local: &str) -> bool {
    let is_atext = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    local.len() <= 64 && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// At least two labels (RFC 1035 section 2.3.1); the last one not of digits only, which would be an address.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_name =
        domain.rsplit_once('.').is_some_and(|(_, last)| last.bytes().any(|byte| byte.is_ascii_alphabetic()));
    last_is_a_name && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Option<String> {
        text.parse::<EmailAddress>().ok().map(|email| email.to_string())
    }

    #[test]
    fn addresses_are_trimmed_and_folded_to_lower_case() {
        assert_eq!(parsed(" Ada.Lovelace+x@Example.COM ").as_deref(), Some("ada.lovelace+x@example.com"));
    }

    #[test]
    fn what_no_mail_system_delivers_to_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "",
            "@",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a@b.",
            "a@.b",
            "a@-b.c",
            "a@b-.c",
            "a@b..c",
            ".a@b.c",
            "a.@b.c",
            "a..b@c.d",
            "a b@c.d",
            "a@b@c.d",
            "a@1.2.3.4",
            "\"a\"@b.c",
            "å@b.c",
            "a@å.c",
            "a\0@b.c",
            "a@b.c\r\nx: y",
            &long,
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            parsed(&text);
        }

        #[test]
        fn ordinary_addresses_are_accepted_and_reading_twice_changes_nothing(
            text in "[a-zA-Z0-9_+-]{1,20}(\\.[a-z0-9]{1,10}){0,3}@[a-z][a-z0-9]{0,10}(\\.[a-zA-Z]{2,6}){1,3}"
        ) {
            let once = parsed(&text);
            prop_assert_eq!(&once, &Some(text.to_ascii_lowercase()));
            prop_assert_eq!(once.as_deref().and_then(parsed), once);
        }
    }
}
