"""Files of measurements, made and read by the packages that define them."""

import struct

import numpy as np
import pytest
import tifffile

from hspan.errors import InputError
from hspan.imaging import Picture, open_layers, probe_image
from hspan.imaging._layers import Range, measured_rows

# rasterio's own use of a package that it depends on.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def grown(layers, tmp_path, scale=2):
    """What a network that repeats pixels would make of every layer."""
    results = []
    for index in range(layers.info.pages):
        picture = layers.layer(index, tmp_path / f"{index}.raw")
        pixels = picture.pixels.repeat(scale, 0).repeat(scale, 1)
        alpha = picture.alpha
        alpha = None if alpha is None else alpha.repeat(scale, 0).repeat(scale, 1)
        results.append(Picture(pixels, alpha))
    return results


def larger(array, scale=2):
    return np.repeat(np.repeat(array, scale, -2), scale, -1)


def test_ranges_come_back_exactly():
    values = np.array([-1024, -3, 0, 17, 3071], np.int16)
    span = Range(-1024.0, 3071.0)
    unit = span.to_unit(values)
    assert (unit.min(), unit.max()) == (0, 1)
    np.testing.assert_array_equal(span.from_unit(unit, values.dtype), values)
    constant = Range(7.0, 7.0)
    assert constant.from_unit(constant.to_unit(np.array([7])), np.dtype(np.uint8)) == 7
    beyond = span.from_unit(np.array([-50.0, 50.0]), np.dtype(np.int16))
    assert beyond.tolist() == [-32768, 32767]


def test_values_never_turn_into_no_data():
    pixels = np.zeros((1, 3, 1), np.float32)
    alpha = np.array([[1, 0.6, 0.4]], np.float32)
    ((_, values),) = measured_rows(Picture(pixels, alpha), Range(0, 9), np.dtype(np.uint8), 0)
    assert values.tolist() == [[1, 1, 0]]


def write_geotiff(path, bands, **options):
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(10, 0, 500_000, 0, -20, 5_400_000)
    count, height, width = bands.shape
    profile = {"crs": "EPSG:32633", "transform": transform} | options
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=count,
        dtype=bands.dtype,
        **profile,
    ) as file:
        file.write(bands)
        file.update_tags(AREA_OR_POINT="Area", SURVEY="north")
        file.update_tags(1, WAVELENGTH="490")
        file.descriptions = [f"band {i}" for i in range(count)]
    return rasterio


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_geotiff_of_many_bands(tmp_path, dtype):
    rng = np.random.default_rng(0)
    bands = (rng.random((5, 300, 40)) * 250).astype(dtype)
    path = tmp_path / "a.tif"
    rasterio = write_geotiff(path, bands, photometric="MINISBLACK")
    layers = open_layers(path)
    assert (layers.info.pages, layers.info.format) == (5, "GeoTIFF")
    layers.write(tmp_path / "b.tif", grown(layers, tmp_path))
    layers.close()
    with rasterio.open(path) as before, rasterio.open(tmp_path / "b.tif") as after:
        tolerance = 1e-4 if "float" in dtype else 0
        np.testing.assert_allclose(after.read(), larger(bands), atol=tolerance)
        assert after.crs == before.crs
        assert after.bounds == before.bounds  # the same piece of the world
        assert (after.transform.a, after.transform.e) == (5, -10)
        assert after.dtypes == before.dtypes
        assert after.descriptions == before.descriptions
        assert after.tags()["SURVEY"] == "north"
        assert after.tags(1)["WAVELENGTH"] == "490"


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_geotiff_without_data_in_places(tmp_path, dtype):
    bands = np.random.default_rng(0).integers(1, 900, (1, 30, 40)).astype(dtype)
    bands[:, 5:20, 7:30] = -9999
    if dtype == "float32":
        bands[:, 0, 0] = np.nan
    path = tmp_path / "a.tif"
    rasterio = write_geotiff(path, bands, nodata=-9999)
    layers = open_layers(path)
    assert layers.info.channels == 2
    results = grown(layers, tmp_path)
    assert results[0].pixels[12:18, 16:30].max() == 0  # nothing of -9999 reaches the network
    layers.write(tmp_path / "b.tif", results)
    layers.close()
    with rasterio.open(tmp_path / "b.tif") as after:
        assert after.nodata == -9999
        expected = larger(np.where(np.isnan(bands), -9999, bands))
        np.testing.assert_allclose(after.read(), expected, atol=1e-3)


def test_geotiff_with_a_mask_in_place_of_a_value(tmp_path):
    path = tmp_path / "a.tif"
    bands = np.random.default_rng(0).integers(1, 255, (3, 20, 30), np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[:, 10:] = True
    rasterio = write_geotiff(path, bands, photometric="RGB")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    layers = open_layers(path)
    assert (layers.info.pages, layers.info.channels) == (1, 4)
    layers.write(tmp_path / "b.tif", grown(layers, tmp_path))
    layers.close()
    with rasterio.open(tmp_path / "b.tif") as after:
        np.testing.assert_array_equal(after.dataset_mask() > 0, larger(mask))
        np.testing.assert_array_equal(after.read(), larger(bands))
        assert [c.name for c in after.colorinterp] == ["red", "green", "blue"]


def test_geotiff_ground_control_points(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    points = [
        rasterio.control.GroundControlPoint(r, c, c * 2.0, r * 3.0)
        for r, c in ((0, 0), (0, 20), (10, 0), (10, 20))
    ]
    path = tmp_path / "a.tif"
    write_geotiff(
        path, np.ones((1, 10, 20), np.uint8), crs="EPSG:4326", transform=None, gcps=points
    )
    layers = open_layers(path)
    layers.write(tmp_path / "b.tif", grown(layers, tmp_path))
    layers.close()
    with rasterio.open(tmp_path / "b.tif") as after:
        found = {(p.row, p.col, p.x, p.y) for p in after.gcps[0]}
    assert found == {(2 * p.row, 2 * p.col, p.x, p.y) for p in points}


def test_maps_of_classes_are_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    write_geotiff(path, np.ones((1, 9, 9), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (9, 99, 9, 255)})
    with pytest.raises(InputError, match="a map of classes"):
        open_layers(path)


def test_geotiff_to_another_format_is_a_plain_picture(tmp_path):
    path = tmp_path / "a.tif"
    write_geotiff(path, np.ones((3, 9, 9), np.uint8), photometric="RGB")
    assert open_layers(path, tmp_path / "b.png") is None


def write_dicom(path, frames, **fields):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID, file.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    file.PatientName, file.Modality = "Nobody", "CT"
    file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.Rows, file.Columns = frames.shape[-2:]
    if frames.ndim == 3:
        file.NumberOfFrames = len(frames)
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit = 15
    file.PixelRepresentation = int(frames.dtype.kind == "i")
    file.PixelSpacing = [0.8, 0.6]
    file.ImagePositionPatient, file.ImageOrientationPatient = [10, 20, 30], [1, 0, 0, 0, 1, 0]
    file.RescaleIntercept, file.RescaleSlope = -1024, 1
    for name, value in fields.items():
        setattr(file, name, value)
    file.PixelData = frames.tobytes()
    file.save_as(path, enforce_file_format=True)
    return pydicom


@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_dicom(tmp_path, shape, dtype):
    frames = np.random.default_rng(0).integers(0, 3000, shape).astype(dtype)
    path = tmp_path / "a.dcm"
    pydicom = write_dicom(path, frames)
    assert probe_image(path).format == "DICOM"
    layers = open_layers(path)
    layers.write(tmp_path / "b.dcm", grown(layers, tmp_path))
    before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "b.dcm")
    np.testing.assert_array_equal(after.pixel_array, larger(frames))
    assert list(after.PixelSpacing) == [0.4, 0.3]
    # The corner stays where it is: half a pixel before the first centre.
    assert list(after.ImagePositionPatient) == pytest.approx([10 - 0.15, 20 - 0.2, 30])
    assert after.PatientName == "Nobody"
    assert (after.RescaleIntercept, after.RescaleSlope) == (-1024, 1)
    assert list(after.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID


def test_dicom_padding_stays(tmp_path):
    frames = np.random.default_rng(0).integers(0, 3000, (30, 20)).astype(np.int16)
    frames[:5] = -2000
    write_dicom(tmp_path / "a.dcm", frames)
    pydicom = pytest.importorskip("pydicom")
    file = pydicom.dcmread(tmp_path / "a.dcm")
    file.add_new("PixelPaddingValue", "SS", -2000)
    file.save_as(tmp_path / "a.dcm")
    layers = open_layers(tmp_path / "a.dcm")
    layers.write(tmp_path / "b.dcm", grown(layers, tmp_path))
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "b.dcm").pixel_array, larger(frames))


def test_damaged_dicom(tmp_path):
    pytest.importorskip("pydicom")
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM" + struct.pack("<HH2sH", 8, 0x16, b"UI", 2) + b"1\0")
    with pytest.raises(InputError, match="without an image"):
        open_layers(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_ome_tiff(tmp_path, dtype):
    planes = (np.random.default_rng(0).random((2, 3, 30, 20)) * 200).astype(dtype)
    path = tmp_path / "a.ome.tif"
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.25,
        "PhysicalSizeZ": 2.0,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata=metadata)
    info = probe_image(path)
    assert (info.format, info.pages) == ("OME-TIFF", 6)
    layers = open_layers(path)
    layers.write(tmp_path / "b.ome.tif", grown(layers, tmp_path))
    layers.close()
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "CZYX"
        tolerance = 1e-4 if dtype == "float32" else 0
        np.testing.assert_allclose(file.asarray(), larger(planes), atol=tolerance)
        assert 'PhysicalSizeX="0.25"' in file.ome_metadata
        assert 'PhysicalSizeY="0.125"' in file.ome_metadata
        assert 'PhysicalSizeZ="2.0"' in file.ome_metadata
        assert "DAPI" in file.ome_metadata


def test_what_is_not_measured(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    (tmp_path / "b.txt").write_text("no image")
    for name in ("a.tif", "b.txt", "missing.tif"):
        assert open_layers(tmp_path / name) is None


@pytest.mark.parametrize(("module", "extra"), [("tifffile", "science"), ("rasterio", "geo")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, extra):
    path = tmp_path / "a.tif"
    if module == "tifffile":
        tifffile.imwrite(path, np.zeros((9, 9), np.uint8), ome=True)
    else:
        tag = (33550, "d", 3, (1.0, 1.0, 0.0), True)
        tifffile.imwrite(path, np.zeros((9, 9), np.uint8), extratags=[tag], metadata=None)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'hspan\[{extra}\]'"):
        probe_image(path)
