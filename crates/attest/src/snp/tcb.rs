//! Versions of a chip's firmware.

use std::fmt;
use std::str::FromStr;

/// A generation of AMD's processors, by the root that its certificates lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004: Genoa, Bergamo, Siena.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// Every product.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }

    /// The product that a certificate names, perhaps with a stepping behind: `Milan-B0`.
    pub(crate) fn of_chip(name: &str) -> Option<Self> {
        let (product, _stepping) = name.split_once('-').unwrap_or((name, ""));
        Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(product))
    }

    /// Whether its firmware has a first mutable code of its own, with a version (57230, table 3).
    pub(crate) fn has_fmc(self) -> bool {
        self == Self::Turin
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The versions of a chip's firmware. As text `bootloader.tee.snp.microcode`, then `.fmc` if that is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnpTcb {
    /// The bootloader of the secure processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// The firmware of SEV-SNP.
    pub snp: u8,
    /// The microcode of the cores.
    pub microcode: u8,
    /// The first mutable code; 0 before Turin.
    pub fmc: u8,
}

impl SnpTcb {
    /// Whether no part is older.
    pub fn are_at_least(&self, least: &Self) -> bool {
        self.numbers().iter().zip(least.numbers()).all(|(has, least)| *has >= least)
    }

    /// From eight bytes of a report (56860, table 3); what is reserved there is left alone.
    pub(crate) fn of_bytes(product: Product, bytes: &[u8; 8]) -> Self {
        let [a, b, c, d, _, _, e, microcode] = *bytes;
        match product.has_fmc() {
            true => Self { fmc: a, bootloader: b, tee: c, snp: d, microcode },
            false => Self { fmc: 0, bootloader: a, tee: b, snp: e, microcode },
        }
    }

    fn numbers(&self) -> [u8; 5] {
        [self.bootloader, self.tee, self.snp, self.microcode, self.fmc]
    }
}

impl fmt::Display for SnpTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bootloader, tee, snp, microcode, fmc } = self;
        write!(f, "{bootloader}.{tee}.{snp}.{microcode}")?;
        if *fmc == 0 { Ok(()) } else { write!(f, ".{fmc}") }
    }
}

/// The text is not four or five numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} are no versions of firmware\nhint: bootloader.tee.snp.microcode, as 3.0.8.115, and .fmc for Turin"
)]
pub struct ParseSnpTcbError(String);

impl FromStr for SnpTcb {
    type Err = ParseSnpTcbError;

    fn from_str(text: &str) -> Result<Self, ParseSnpTcbError> {
        let numbers: Option<Vec<u8>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[bootloader, tee, snp, microcode]) => Ok(Self { bootloader, tee, snp, microcode, fmc: 0 }),
            Some(&[bootloader, tee, snp, microcode, fmc]) => {
                Ok(Self { bootloader, tee, snp, microcode, fmc })
            }
            _ => Err(ParseSnpTcbError(text.chars().take(64).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_they_are_read() {
        for text in ["3.0.8.115", "1.2.3.4.5"] {
            assert_eq!(text.parse::<SnpTcb>().unwrap().to_string(), text);
        }
        for text in ["", "1.2.3", "1.2.3.4.5.6", "1.2.3.256", "a.b.c.d"] {
            assert!(text.parse::<SnpTcb>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_part_has_to_be_new_enough() {
        let versions: SnpTcb = "3.1.8.115".parse().unwrap();
        assert!(versions.are_at_least(&versions));
        assert!(versions.are_at_least(&SnpTcb::default()));
        for least in ["4.0.0.0", "0.2.0.0", "0.0.9.0", "0.0.0.116", "0.0.0.0.1"] {
            assert!(!versions.are_at_least(&least.parse().unwrap()), "{least}");
        }
    }

    #[test]
    fn generations_write_their_versions_in_other_places() {
        let bytes = [1, 2, 3, 4, 0, 0, 7, 8];
        assert_eq!(SnpTcb::of_bytes(Product::Milan, &bytes).to_string(), "1.2.7.8");
        assert_eq!(SnpTcb::of_bytes(Product::Turin, &bytes).to_string(), "2.3.4.8.1");
    }

    #[test]
    fn a_chip_is_of_the_product_that_its_certificate_names() {
        assert_eq!(Product::of_chip("Milan-B0"), Some(Product::Milan));
        assert_eq!(Product::of_chip("Turin"), Some(Product::Turin));
        assert_eq!(Product::of_chip("Milanese"), None);
    }
}
