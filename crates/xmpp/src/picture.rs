//! The picture of an agent: a symmetric pattern that follows from its id, so that contacts can be told apart at a glance.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;
use xmpp_parsers::{caps::hash_caps, hashes::Algo};

/// Squares of the pattern in each direction.
const CELLS: usize = 5;
/// Pixels of one square, and of the border around all.
const CELL: usize = 16;
const BORDER: usize = 8;

/// A picture of [`Picture::SIDE`] x [`Picture::SIDE`] pixels in two colours, as a PNG of a few hundred bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture(Vec<u8>);

impl Picture {
    /// Media type.
    pub(crate) const TYPE: &str = "image/png";
    /// Width and height in pixels.
    pub(crate) const SIDE: usize = CELLS * CELL + 2 * BORDER;

    /// The picture of the agent with this id, always the same one.
    pub(crate) fn of(agent: Uuid) -> Self {
        let digest = digest(agent.as_bytes(), Algo::Sha_256);
        let byte = |index: usize| digest.get(index).copied().unwrap_or_default();
        let filled = |row: usize, column: usize| {
            // Left and right are alike: people see such patterns as faces.
            let index = row * CELLS.div_ceil(2) + column.min(CELLS - 1 - column);
            byte(4 + index) & 1 == 1
        };
        let cell_of = |pixel: usize| pixel.checked_sub(BORDER).map(|inside| inside / CELL).filter(|cell| *cell < CELLS);
        let stride = Self::SIDE.div_ceil(8);
        let mut pixels = vec![0u8; stride * Self::SIDE];
        for y in 0..Self::SIDE {
            for x in 0..Self::SIDE {
                if let (Some(row), Some(column)) = (cell_of(y), cell_of(x))
                    && filled(row, column)
                {
                    pixels[y * stride + x / 8] |= 0x80 >> (x % 8);
                }
            }
        }
        let [red, green, blue] = colour(u16::from_be_bytes([byte(0), byte(1)]));
        Self(encode(&pixels, [0xf2, 0xf2, 0xf2, red, green, blue]))
    }

    /// The file.
    pub(crate) fn png(&self) -> &[u8] {
        &self.0
    }

    /// The file in base64.
    pub(crate) fn base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// SHA-1 of the file in hex: its id in XEP-0153 and XEP-0084.
    pub(crate) fn sha1(&self) -> String {
        digest(&self.0, Algo::Sha_1).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn digest(data: &[u8], algorithm: Algo) -> Vec<u8> {
    hash_caps(data, algorithm).map(|hash| hash.hash).unwrap_or_default()
}

/// A colour of medium lightness; `hue` is a full turn from 0 to `u16::MAX`.
fn colour(hue: u16) -> [u8; 3] {
    let sector = f64::from(hue) / 65_536.0 * 6.0;
    let (low, high) = (60.0, 180.0);
    let ramp = |offset: f64| {
        let distance = ((sector + offset) % 6.0 - 3.0).abs() - 1.0;
        let level = low + (high - low) * distance.clamp(0.0, 1.0);
        // Between 60 and 180 by construction.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a byte")]
        let byte = level as u8;
        byte
    };
    [ramp(0.0), ramp(4.0), ramp(2.0)]
}

/// Never fails for our sizes; an empty file would be shown as no picture.
fn encode(pixels: &[u8], palette: [u8; 6]) -> Vec<u8> {
    let side = u32::try_from(Picture::SIDE).unwrap_or_default();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_palette(palette.to_vec());
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(pixels));
    if let Err(error) = written {
        tracing::error!(%error, "the picture of an agent cannot be made");
        file.clear();
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_has_the_same_small_png_and_others_have_others() {
        let one = Picture::of(Uuid::from_u128(1));
        assert_eq!(one, Picture::of(Uuid::from_u128(1)));
        assert_ne!(one, Picture::of(Uuid::from_u128(2)));
        assert!(one.png().len() < 1024 && one.sha1().len() == 40, "{}", one.png().len());
        let mut reader = png::Decoder::new(std::io::Cursor::new(one.png())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width as usize, info.height as usize), (Picture::SIDE, Picture::SIDE));
    }

    #[test]
    fn colours_go_around_the_circle() {
        assert_eq!([colour(0), colour(21_845), colour(43_691)].map(|c| c.iter().max().copied()), [Some(180); 3]);
        assert_ne!(colour(0), colour(32_768));
    }
}
