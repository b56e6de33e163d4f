//! Where a storage is, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address of a storage.
///
/// ```
/// use zoo_storage::Address;
///
/// for text in ["dir:/mnt/backup", "s3://bucket/some/prefix?region=eu-north-1", "ipfs:127.0.0.1:5001", "car:run.car"] {
///     let address: Address = text.parse()?;
///     assert_eq!(address.to_string(), text);
/// }
/// # Ok::<(), zoo_storage::ParseAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// `dir:PATH`: a folder of this machine, or mounted on it.
    Folder(PathBuf),
    /// `s3://BUCKET/PREFIX`: a bucket of a server that speaks S3.
    Bucket(BucketAddress),
    /// `ipfs:HOST:PORT`: an IPFS node, by its HTTP RPC.
    Node(String),
    /// `car:FILE`: one snapshot as a file that IPFS imports.
    Archive(PathBuf),
}

/// A place in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAddress {
    /// Name of the bucket.
    pub bucket: String,
    /// What every key begins with; may be empty.
    pub prefix: String,
    /// The server; none: by `AWS_ENDPOINT_URL`, or else Amazon.
    pub endpoint: Option<String>,
    /// The region; none: by `AWS_REGION`.
    pub region: Option<String>,
}

/// The text is no address of a storage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}: {cause}\nhint: write {HINT}")]
pub struct ParseAddressError {
    text: String,
    cause: &'static str,
}

const HINT: &str = "dir:PATH, s3://BUCKET/PREFIX?endpoint=URL&region=NAME, ipfs:HOST:PORT or car:FILE";

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let refuse = |cause| Err(ParseAddressError { text: without_query(text), cause });
        let Some((kind, rest)) = text.split_once(':') else { return refuse("not the address of a storage") };
        match (kind, rest) {
            ("dir" | "car", "") => refuse("there is no path"),
            ("dir", path) => Ok(Self::Folder(path.into())),
            ("car", path) => Ok(Self::Archive(path.into())),
            ("ipfs", authority) if is_authority(authority) => Ok(Self::Node(authority.to_owned())),
            ("ipfs", _) => refuse("not the host and the port of an IPFS node's RPC"),
            ("s3", rest) => match BucketAddress::parse(rest) {
                Ok(bucket) => Ok(Self::Bucket(bucket)),
                Err(cause) => refuse(cause),
            },
            _ => refuse("there is no such kind of storage"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = ParseAddressError;

    fn try_from(text: String) -> Result<Self, ParseAddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl BucketAddress {
    fn parse(rest: &str) -> Result<Self, &'static str> {
        let rest = rest.strip_prefix("//").ok_or("there is no // before the bucket")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err("a bucket's name has letters, digits, dots and hyphens");
        }
        let prefix = prefix.trim_end_matches('/');
        let good = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
        if !prefix.is_empty() && !prefix.split('/').all(good) {
            return Err("a prefix has letters, digits, dots, hyphens and single slashes");
        }
        let (mut endpoint, mut region) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", url)) if url.starts_with("http://") || url.starts_with("https://") => {
                    endpoint = Some(url.to_owned());
                }
                Some(("endpoint", _)) => return Err("an endpoint begins with http:// or https://"),
                Some(("region", name)) => region = Some(name.to_owned()),
                // An address is shown, logged and kept: secrets have no place in it.
                _ => {
                    return Err(
                        "only endpoint and region may follow; credentials are taken from AWS_* variables",
                    );
                }
            }
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint, region })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "dir:{}", path.display()),
            Self::Archive(path) => write!(f, "car:{}", path.display()),
            Self::Node(authority) => write!(f, "ipfs:{authority}"),
            Self::Bucket(BucketAddress { bucket, prefix, endpoint, region }) => {
                write!(f, "s3://{bucket}")?;
                if !prefix.is_empty() {
                    write!(f, "/{prefix}")?;
                }
                let query = [("endpoint", endpoint), ("region", region)].into_iter();
                let query = query.filter_map(|(key, value)| Some((key, value.as_ref()?)));
                query.zip("?&".chars()).try_for_each(|((key, value), mark)| write!(f, "{mark}{key}={value}"))
            }
        }
    }
}

fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-[]:".contains(c);
    !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// What a mistaken address is called in a message: somebody may have put a secret into its query.
fn without_query(text: &str) -> String {
    text.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        for (text, shown) in [
            ("dir:a/b", "dir:a/b"),
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://b/p/q/?region=r", "s3://b/p/q?region=r"),
            ("s3://b?region=r&endpoint=http://h:9000", "s3://b?endpoint=http://h:9000&region=r"),
            ("ipfs:localhost:5001", "ipfs:localhost:5001"),
            ("ipfs:[::1]:5001", "ipfs:[::1]:5001"),
            ("car:x.car", "car:x.car"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_hint_and_without_its_secrets() {
        for (text, cause) in [
            ("", "not the address"),
            ("/mnt/x", "not the address"),
            ("dir:", "no path"),
            ("ftp://x", "no such kind"),
            ("s3:bucket", "no // before"),
            ("s3://", "a bucket's name"),
            ("s3://b//c", "a prefix has"),
            ("s3://b/../c", "a prefix has"),
            ("s3://b?secret_access_key=hunter2", "from AWS_* variables"),
            ("s3://b?endpoint=host", "an endpoint begins"),
            ("ipfs:localhost", "not the host and the port"),
            ("ipfs:a/b:5001", "not the host and the port"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(cause) && error.contains("\nhint: write dir:PATH"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text: String) {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
